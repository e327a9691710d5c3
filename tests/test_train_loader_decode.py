"""Who decodes, host or device, changes no bit of a loader's batches."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import photograph
from PIL import Image
from train_data import ORDER

from pack.base.config import PackConfig
from pack.dataset.dataset import Dataset
from pack.dataset.pairs import StoredPair
from pack.publish.packing import pack
from recon.base.errors import UserError
from recon.image.codec import Pixels
from train.draws.config import AugmentConfig
from train.loader.loader import PairLoader
from train.loader.transfer import Batch, Transfer

PAIRS, SHARD, HURT = 14, 5, 2  # a pair of JPEGs is damaged
RECIPE = AugmentConfig(crop=24, views=2, resized_crop_p=0.2)
OPTIONS: dict[str, Any] = ORDER | {"batch_size": 4, "augment": RECIPE}


def put(path: Path, pixels: Pixels, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """JPEGs of all kinds and PNGs, with masks; a byte of one fake is flipped."""
    folder = tmp_path_factory.mktemp("coded")
    for number in range(PAIRS):
        pixels, name = photograph(500, 600, number), f"{number:02}"
        kinds = [*({"quality": 85, "subsampling": one} for one in range(3)), None, {"progressive": True}]
        suffix, options = ("png", {}) if (kind := kinds[number % 5]) is None else ("jpg", kind)
        two = (pixels, pixels ^ 4)
        if number == 5:  # of grey ones too
            two = (two[0][..., 0], two[1][..., 0])
            options = {"quality": 85}
        put(folder / f"real/{name}.{suffix}", two[0], **options)
        put(folder / f"fakes/{name}.{suffix}", two[1], **options)
        put(folder / f"fakes/{name}.mask.png", pixels[..., 0])
    out = folder / "packed"
    fakes = str(folder / "fakes")
    pack(PackConfig(source=str(folder / "real"), reconstructions=fakes, out=str(out), shard_pairs=SHARD))
    row = Dataset(str(out)).table(0).slice(HURT, 1).to_pylist()[0]
    with (out / "shard-000000.tar").open("r+b") as file:
        file.seek(row["fake_offset"] + row["fake_size"] // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    return str(out)


def batches(url: str, first: int = 0, **options: Any) -> list[Batch]:
    """The rest of an epoch from a step on."""
    with closing(PairLoader(url, **(OPTIONS | options))) as loader:
        loader.load_state_dict(loader.state_dict() | {"step": first})
        return list(loader)


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys == other.keys
        assert [pair.key for pair in one.damaged] == [pair.key for pair in other.damaged]
        for name in ("images", "valid", "mask", "changed"):
            mine, its = getattr(one, name), getattr(other, name)
            assert mine is its is None or torch.equal(mine, its), name


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many windows the device decoded, batch by batch."""
    counts: list[int] = []
    before = Transfer._decoded

    def counted(self: Transfer, coded: Any, side: int) -> Any:
        counts.append(len(coded.facts_N))
        return before(self, coded, side)

    monkeypatch.setattr(Transfer, "_decoded", counted)
    return counts


@pytest.mark.parametrize("workers", [0, 1])
def test_the_device_gives_the_hosts_batches_and_a_resumed_epoch_too(
    url: str, workers: int, decoded: list[int]
) -> None:
    expected = batches(url, workers=workers, decode="host")
    assert decoded == []
    assert sum(len(batch.damaged) for batch in expected) == 1
    assert expected[0].changed is not None
    found = batches(url, workers=workers, decode="device")
    assert 0 < sum(decoded) < PAIRS * 2 * RECIPE.views  # some of the windows, but not those of PNGs
    assert_same(found, expected)
    assert_same(batches(url, 2, workers=workers, decode="device"), expected[2:])


RECIPES = {"clean": None, "published": AugmentConfig(crop=40), "views": RECIPE}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("workers", [0, 1])
def test_every_recipe_s_batches_are_the_hosts(url: str, name: str, workers: int, decoded: list[int]) -> None:
    options = {"augment": RECIPES[name], "centre_crop": 40, "workers": workers}
    assert_same(batches(url, **options, decode="device"), batches(url, **options, decode="host"))
    assert sum(decoded) > 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", RECIPES)
def test_a_gpu_decodes_to_the_bits_of_the_host(url: str, name: str) -> None:
    options = {"augment": RECIPES[name], "centre_crop": 40, "device": "cuda"}
    assert_same(batches(url, **options, decode="auto"), batches(url, **options, decode="host"))


def test_there_are_entry_points_of_the_baseline_jpegs_alone(url: str) -> None:
    dataset = Dataset(url, hints=True)
    pairs = [pair for shard in range(3) for pair in dataset.read_block(shard, 0, SHARD if shard < 2 else 4)]
    known = [pair.hints["real"].entries is not None for pair in pairs if isinstance(pair, StoredPair)]
    assert known == [number % 5 < 3 for number in range(PAIRS) if number != HURT]


def test_the_host_decodes_for_a_cpu_and_needs_no_memory_for_coefficients(url: str) -> None:
    with closing(PairLoader(url, **OPTIONS)) as loader:
        assert loader.plan.room.blocks == 0
    with closing(PairLoader(url, **OPTIONS, decode="device")) as loader:
        assert loader.plan.room.blocks > 0


def test_an_unknown_word_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="decode='gpu', expected auto or host or device"):
        PairLoader(url, **OPTIONS, decode="gpu")  # type: ignore[arg-type]
