"""Masks of ready fakes: found beside them, stored, and cropped as their pair is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph, save
from pack_runs import config, files, pack_rank
from several_fakes import rows_of
from train_data import AUGMENT, world

from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.inspect.verify import verify
from pack.publish.packing import pack
from recon.base.errors import UserError
from train.draws.config import PHOTOMETRIC, AugmentConfig

SIZES = ((40, 56), (33, 48), (17, 23))


def write_inpainted(root: Path, count: int = 7) -> dict[str, Any]:
    """Photographs that are grey, whose masks are equal to them; returns where they lie."""
    for number in range(count):
        grey = photograph(*SIZES[number % 3], number)[..., 0]
        save(root / f"photos/{number}.png", grey)
        save(root / f"fakes/{number}.png", grey ^ 4)
        save(root / f"fakes/{number}.mask.png", grey)
    return {"reconstructions": str(root / "fakes"), "codec": "lossless-png"}


@pytest.fixture(scope="module")
def inpainted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("masks")
    pack(config(root / "photos", root / "packed", shard_pairs=3, **write_inpainted(root)))
    return root


def test_masks_are_stored_beside_their_fakes_byte_for_byte(inpainted: Path) -> None:
    dataset = open_dataset(str(inpainted / "packed"))
    assert list(verify(dataset)) == []
    assert dataset.manifest.masks
    for row, pair in zip(
        rows_of(inpainted / "packed"), iterate_pairs(str(inpainted / "packed")), strict=True
    ):
        name = row["path"].removesuffix(".png")
        assert pair.members["mask.png"] == (inpainted / f"fakes/{name}.mask.png").read_bytes()
        assert row["fake_offset"] < row["mask_offset"] < row["json_offset"]


def test_ranks_write_masks_alike(inpainted: Path, tmp_path: Path) -> None:
    options = {"reconstructions": str(inpainted / "fakes"), "codec": "lossless-png"}
    for rank in (2, 0, 1):
        pack_rank(inpainted / "photos", tmp_path, rank, 3, shard_pairs=3, **options)
    assert files(tmp_path) == files(inpainted / "packed")


GEOMETRY = AugmentConfig(crop=24, resized_crop_p=0.5, **dict.fromkeys(PHOTOMETRIC, 0.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("augment", [GEOMETRY, replace(GEOMETRY, views=2), None])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_mask_is_cropped_turned_and_mirrored_as_its_pair(
    inpainted: Path, augment: AugmentConfig | None, workers: int
) -> None:
    """The masks are the real images here, and no op but the geometry is done."""
    (loader,) = world(str(inpainted / "packed"), 1, augment=augment, centre_crop=24, workers=workers)
    count = 0
    for epoch in range(3):
        loader.set_epoch(epoch)
        for batch in loader:
            assert batch.changed is not None
            assert (batch.changed[batch.mask] == batch.images[batch.mask][:, 0, 0]).all()
            assert not batch.changed[~batch.mask].any()
            count += len(batch.keys)
    loader.close()
    assert count == 21


def test_a_mixture_marks_all_of_a_fake_without_a_mask(inpainted: Path, tmp_path: Path) -> None:
    write_inpainted(tmp_path)
    for path in tmp_path.glob("fakes/*.mask.png"):
        path.unlink()
    options = {"reconstructions": str(tmp_path / "fakes"), "codec": "lossless-png", "name": "plain"}
    pack(config(tmp_path / "photos", tmp_path / "plain", **options))
    assert "masks" not in open_dataset(str(tmp_path / "plain")).manifest.provenance
    (alone,) = world(str(tmp_path / "plain"), 1)
    assert all(batch.changed is None for batch in alone)
    (mixed,) = world({str(tmp_path / "plain"): 1.0, str(inpainted / "packed"): 1.0}, 1, augment=AUGMENT)
    white = sum(bool((one == 255).all()) for batch in mixed for one in batch.changed[batch.mask])  # type: ignore[index]
    assert white == 7


def _without(root: Path) -> None:
    (root / "fakes/3.mask.png").unlink()


def _of_another_size(root: Path) -> None:
    save(root / "fakes/3.mask.png", np.zeros((9, 9), np.uint8))


def _coloured(root: Path) -> None:
    save(root / "fakes/3.mask.png", photograph(*SIZES[0], 3))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            _without,
            r"1 of 7 reconstructions in \S+ have no mask, the first is that of 3.png; add NAME.mask.png",
        ),
        (_of_another_size, None),
        (_coloured, None),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], message: str | None
) -> None:
    options = write_inpainted(tmp_path)
    spoil(tmp_path)
    if message:
        with pytest.raises(UserError, match=message):
            pack(config(tmp_path / "photos", tmp_path / "out", **options))
        return
    pack(config(tmp_path / "photos", tmp_path / "out", **options))
    assert len(rows_of(tmp_path / "out")) == 6
    assert (
        "expected an 8-bit grey PNG of 56x40 with 1 channel" in (tmp_path / "out/rejected.jsonl").read_text()
    )


def test_a_photograph_whose_name_ends_in_mask_is_no_mask(tmp_path: Path) -> None:
    for name in ("a", "a.mask"):
        save(tmp_path / f"photos/{name}.png", photograph(16, 16, 0))
        save(tmp_path / f"fakes/{name}.png", photograph(16, 16, 1))
    pack(config(tmp_path / "photos", tmp_path / "out", reconstructions=str(tmp_path / "fakes")))
    assert not open_dataset(str(tmp_path / "out")).manifest.masks
    assert len(rows_of(tmp_path / "out")) == 2
