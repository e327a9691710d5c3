"""The index says which photographs were JPEG once; packing and training can leave them out."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph, save
from PIL import Image

from pack.base.config import PackConfig
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.dataset.selection import select
from pack.publish.packing import pack
from recon.base.errors import UserError
from recon.image.codec import Pixels

NEVER, FILE, OLD = "never.png", "file.jpg", "old.png"
SHIFT, PHASE = (3, 5), 8 * 5 + 3  # cut off above and at the left; where the next block then begins


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph that never was JPEG, one that is, and one that was, at a shifted grid."""
    root = tmp_path_factory.mktemp("phases") / "photos"
    save(root / NEVER, photograph(128, 160, 0))
    save(root / FILE, photograph(128, 160, 1), quality=75)
    save(root / OLD, compressed(photograph(140, 170, 2))[SHIFT[0] :, SHIFT[1] :])
    return root


def compressed(pixels: Pixels) -> Pixels:
    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=75)
    return np.asarray(Image.open(out))


def packed(source: Path, out: Path, **options: Any) -> dict[str, list[int | None]]:
    """The phases of the pairs of each photograph; KEY.json must say the same."""
    pack(PackConfig(source=str(source), out=str(out), autoencoder="identity", threads=1, **options))
    phases: dict[str, list[int | None]] = {}
    rows = open_dataset(str(out)).table(0).to_pylist()
    for row, pair in zip(rows, iterate_pairs(str(out)), strict=True):
        phases.setdefault(row["path"], []).append(row["jpeg_phase"])
        assert json.loads(pair.members["json"])["jpeg_phase"] == row["jpeg_phase"]
    return phases


@pytest.mark.parametrize("codec", ["match", "lossless-png", "both"])
def test_phase_is_that_of_the_photograph_whatever_packing_makes_of_it(
    source: Path, tmp_path: Path, codec: str
) -> None:
    assert packed(source, tmp_path / "out", codec=codec) == {NEVER: [-1], FILE: [0], OLD: [PHASE]}


def test_tiles_have_the_phase_of_their_photograph(source: Path, tmp_path: Path) -> None:
    assert packed(source, tmp_path / "out", tile=64) == {NEVER: [-1] * 4, FILE: [0] * 4, OLD: [PHASE] * 4}


def test_jpeg_that_is_converted_has_its_phase(tmp_path: Path) -> None:
    path = tmp_path / "photos/cmyk.jpg"
    path.parent.mkdir()
    Image.fromarray(photograph(128, 160, 3)).convert("CMYK").save(path, quality=75)
    assert packed(path.parent, tmp_path / "out", convert=True, codec="both") == {"cmyk.jpg": [0]}


def test_photographs_that_were_jpeg_are_rejected_where_that_is_asked_for(
    source: Path, tmp_path: Path
) -> None:
    assert packed(source, tmp_path / "out", require_jpeg_free=True) == {NEVER: [-1]}
    lines = (tmp_path / "out/rejected.jsonl").read_text().splitlines()
    cure = (
        "expected photographs that never were; scale it to half its size and save it losslessly, "
        "or pack without --require_jpeg_free"
    )
    assert {one["path"]: one["cause"] for one in map(json.loads, lines)} == {
        FILE: f"is a JPEG, {cure}",
        OLD: f"is no JPEG now, but was one once (phase {PHASE}), {cure}",
    }


def test_halving_a_jpeg_makes_it_acceptable_as_the_cause_says(tmp_path: Path) -> None:
    pixels = compressed(photograph(256, 320, 1))
    save(tmp_path / "photos/half.png", np.asarray(Image.fromarray(pixels).reduce(2)))
    assert packed(tmp_path / "photos", tmp_path / "out", require_jpeg_free=True) == {"half.png": [-1]}


def test_filter_takes_the_photographs_that_never_were_jpeg(source: Path, tmp_path: Path) -> None:
    packed(source, tmp_path / "out")
    dataset = open_dataset(str(tmp_path / "out"))
    paths = dataset.table(0)["path"].to_numpy(zero_copy_only=False)
    for text, expected in (
        ("jpeg_phase == -1", [NEVER]),
        ("jpeg_phase in [0, 43]", [FILE, OLD]),
        ("jpeg_phase > 0", [OLD]),
    ):
        assert paths[select(dataset, text).rows(0)].tolist() == expected
    with pytest.raises(UserError, match="selects none of 3 pairs"):
        select(dataset, "jpeg_phase is None")
