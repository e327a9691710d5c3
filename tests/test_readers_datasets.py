"""Other readers read datasets of mixed codecs whole: Hugging Face's datasets and plain webdataset."""

import os
import re
import tarfile
from collections.abc import Iterable
from glob import glob
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds
from conftest import python
from reader_datasets import OFFLINE, PAIRS, Row, load, packed_into, stored

from pack.adopt.upgrade import upgrade
from pack.card.fields import Fields
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.shard.schema import RECORD_DEFAULTS

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves tars to the collector

OLD = Path(__file__).parent / "pairstream1.tar.xz"
FOLDERS = ("whole", "splits", "by_codec", "mixed", "adopted")
Splits = dict[str, list[Row]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of each kind, to be read only; ``mixed`` and ``adopted`` are older ones, upgraded."""
    folder = tmp_path_factory.mktemp("readers")
    packed_into(folder / "whole")
    packed_into(folder / "splits", val_fraction=0.3)
    packed_into(folder / "by_codec", fields="by_codec")
    with tarfile.open(OLD) as tar:
        tar.extractall(folder, filter="data")
    upgrade(str(folder / "mixed"))
    upgrade(str(folder / "adopted"))
    return folder


@pytest.fixture(scope="module")
def loaded(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Splits]:
    """What ``load_dataset`` gives, by folder (or builder) and whether it was streamed."""
    asked: dict[str, tuple[str, Row]] = {name: (str(root / name), {}) for name in FOLDERS}
    asked["builder"] = "webdataset", {"data_files": {"train": str(root / "whole/*.tar")}}
    found = load(tmp_path_factory.mktemp("cache"), asked.values())
    keys = [(name, streamed) for name in asked for streamed in (False, True)]
    return dict(zip(keys, found, strict=True))


def images(rows: Iterable[Row], fields: Fields) -> dict[str, tuple[Any, ...]]:
    """By key the real image and the fake, of which several columns may hold one."""
    halves = fields.real, fields.fake
    return {
        row["__key__"]: tuple(next(filter(None, map(row.get, names)), None) for names in halves)
        for row in rows
    }


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", [*FOLDERS, "builder"])
def test_datasets_reads_both_images_of_every_pair(
    root: Path, loaded: dict[tuple[str, bool], Splits], name: str, streamed: bool
) -> None:
    splits = loaded[name, streamed]
    assert list(splits) == (["train", "val"] if name == "splits" else ["train"])
    for split, rows in splits.items():
        folder = {"splits": f"splits/{split}", "builder": "whole"}.get(name, name)
        fields = Fields.of(open_dataset(str(root / folder)).manifest)
        assert images(rows, fields) == stored(root / folder)
    if name in ("whole", "splits", "by_codec", "builder"):
        assert sum(map(len, splits.values())) == PAIRS


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", ["whole", "by_codec", "builder"])
def test_datasets_reads_every_fact_of_the_samples(
    loaded: dict[tuple[str, bool], Splits], name: str, streamed: bool
) -> None:
    records = [row["json"] for row in loaded[name, streamed]["train"]]
    assert all(set(record) == {"key", *RECORD_DEFAULTS} for record in records)
    assert [record["real_codec"] for record in records] == ["png"] * 8 + ["jpeg"] * 6
    assert [record["orientation"] for record in records] == [1] * 8 + [6] * 6


@pytest.mark.parametrize("name", ["whole", "by_codec", "mixed"])
def test_webdataset_reads_both_images_of_every_pair(root: Path, name: str) -> None:
    fields = Fields.of(open_dataset(str(root / name)).manifest)
    names = "__key__", ";".join(fields.real), ";".join(fields.fake)
    read = wds.WebDataset(sorted(glob(f"{root / name}/*.tar")), shardshuffle=False).to_tuple(*names)
    expected = [(pair.key, pair.real, pair.fake) for pair in iterate_pairs(str(root / name))]
    assert [tuple(one) for one in read] == expected


def test_snippets_of_every_card_run(root: Path, tmp_path: Path) -> None:
    lines = []
    for folder in map(root.joinpath, FOLDERS):
        snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
        datasets, webdataset, pairstream = (text.replace("FOLDER", str(folder)) for text in snippets)
        compile(pairstream, "pairstream", "exec")  # README's tests run these lines
        lines += [datasets, "print(real.size == fake.size)\n", webdataset, "print(real.size == fake.size)\n"]
    (tmp_path / "snippets.py").write_text("".join(lines))
    script = "import runpy, sys; runpy.run_path(sys.argv[1])"
    ended = python(script, tmp_path / "snippets.py", env=os.environ | OFFLINE)
    assert (ended.returncode, ended.stdout.split()) == (0, ["True"] * 2 * len(FOLDERS)), ended.stderr
