"""The card of tars that others wrote names what they hold: neither more nor less than other readers find."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds
import yaml
from conftest import python
from reader_datasets import OFFLINE, load, stored
from stranger_tars import image, write_members

from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.card.card import card
from pack.card.fields import Fields
from pack.card.front_matter import Part
from pack.shard.manifest import Manifest, ShardEntry, read_manifest
from pack.storage import open_store

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves tars to the collector

Members = dict[str, bytes]

PNG, JPEG = image(0, "PNG"), image(0)
JSON = json.dumps({"caption": "a", "n": 1}).encode()
MIXED_JSON = json.dumps({"caption": None, "list": ["b"]}).encode()
KINDS: dict[str, tuple[dict[str, str], list[Members]]] = {
    "plain": ({}, [{"real.jpg": JPEG, "fake.png": PNG}] * 3),
    "beside": (
        {"real": "jpg", "fake": "recon.png"},
        [{"jpg": JPEG, "recon.png": PNG, "json": one, "txt": b"text", "cls": b"1"} for one in (JSON,) * 3],
    ),
    "mixed": (
        {},
        [{f"real.{end}": data, "fake.png": PNG, "json": JSON} for end, data in (("jpg", JPEG), ("png", PNG))]
        + [{"real.jpg": JPEG, "fake.jpg": JPEG, "json": MIXED_JSON}] * 5,
    ),
    "some": ({}, [{"real.jpg": JPEG, "fake.png": PNG}, {"real.jpg": JPEG, "fake.png": PNG, "json": JSON}]),
    "hidden": ({}, [{"real.jpg": JPEG, "fake.png": PNG}] * 2),
    "capitals": (
        {},
        [{"real.JPG": JPEG, "fake.PNG": PNG, "JSON": JSON}, {"real.jpg": JPEG, "fake.png": PNG}],
    ),
}
EXPECTED = {
    "plain": (["real.jpg", "fake.png"], ["real", "fake"]),
    "beside": (["jpg", "recon.png", "cls", "json", "txt"], ["real", "fake", "about"]),
    "mixed": (["real.jpg", "real.png", "fake.jpg", "fake.png", "json"], ["real", "fake", "about"]),
    "some": (["real.jpg", "fake.png", "json"], ["real", "fake"]),
    "hidden": (["real.jpg", "fake.png"], ["real", "fake"]),
    "capitals": (["real.JPG", "real.jpg", "fake.PNG", "fake.png", "JSON"], ["real", "fake"]),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of each kind, indexed."""
    folder = tmp_path_factory.mktemp("strangers")
    for kind, (options, samples) in KINDS.items():
        members = [(f"k{n}.{name}", data) for n, one in enumerate(samples) for name, data in one.items()]
        if kind == "hidden":  # as macOS writes them beside the files of a folder
            members = [one for name, data in members for one in ((f"a/._{name}", b"?"), (f"a/{name}", data))]
        write_members(folder / kind / "0.tar", members)
        adopt(IndexConfig(url=[str(folder / kind)], **options))  # type: ignore[arg-type]
    return folder


def features(folder: Path) -> list[str]:
    front = (folder / "README.md").read_text().split("---\n")[1]
    found = yaml.safe_load(front)["dataset_info"]["features"]
    return [one["name"] for one in found if not one["name"].startswith("__")]


@pytest.mark.parametrize("kind", KINDS)
def test_front_matter_names_the_fields_of_the_tars_and_no_other(root: Path, kind: str) -> None:
    assert features(root / kind) == EXPECTED[kind][0]
    assert set(features(root / kind)) == {name for sample in KINDS[kind][1] for name in sample}
    snippets = re.findall(r"```python\n(.*?)```", (root / kind / "README.md").read_text(), re.DOTALL)
    names = EXPECTED[kind][1]
    assert re.findall(r"^    (\w+) = pair\[", snippets[0], re.MULTILINE) == names
    assert f"for {', '.join(names)} in" in snippets[1]


def test_datasets_finds_the_values_of_every_column(root: Path, tmp_path: Path) -> None:
    asked = [(str(root / kind), {}) for kind in KINDS]
    found = load(tmp_path, asked)
    for kind, *both in zip(KINDS, found[::2], found[1::2], strict=True):
        assert both[0] == both[1], "streamed rows differ"
        rows = both[0]["train"]
        fields, images = Fields.of(read_manifest(open_store(str(root / kind)))), stored(root / kind)
        assert {row["__key__"]: (_of(row, fields.real), _of(row, fields.fake)) for row in rows} == images
        for row, sample in zip(rows, KINDS[kind][1], strict=True):
            assert {name for name, value in row.items() if value is not None} == {
                "__key__",
                "__url__",
                *sample,
            }
    about = [row["json"] for row in found[2]["train"]]
    assert about == [json.loads(JSON)] * 3
    assert [(row["txt"], row["cls"]) for row in found[2]["train"]] == [("text", 1)] * 3
    assert [row["json"] for row in found[4]["train"]] == [json.loads(JSON)] * 2 + [json.loads(MIXED_JSON)] * 5


def _of(row: dict[str, Any], names: Iterable[str]) -> Any:
    return next(filter(None, (row[name] for name in names)), None)


def test_snippets_of_every_card_run_over_all_pairs(root: Path, tmp_path: Path) -> None:
    lines = []
    for kind in KINDS:
        snippets = re.findall(r"```python\n(.*?)```", (root / kind / "README.md").read_text(), re.DOTALL)
        for text in snippets[:2]:
            loop = text.replace("FOLDER", str(root / kind)).rstrip().removesuffix("...")
            lines += ["count = 0\n", loop.rstrip(), "\n    assert real.size == fake.size\n    count += 1\n"]
            lines.append("print(count)\n")
    (tmp_path / "snippets.py").write_text("".join(lines))
    ended = python("import runpy, sys; runpy.run_path(sys.argv[1])", tmp_path / "snippets.py", env=_offline())
    counts = [len(samples) for _, samples in KINDS.values() for _ in range(2)]
    assert (ended.returncode, ended.stdout.split()) == (0, [*map(str, counts)]), ended.stderr


def _offline() -> dict[str, str]:
    return dict(os.environ) | OFFLINE


def test_webdataset_finds_what_the_snippet_names(root: Path) -> None:
    for kind, (_, samples) in KINDS.items():
        fields = Fields.of(read_manifest(open_store(str(root / kind))))
        small = {name.lower() for name in (*fields.real, *fields.fake, *fields.other)}
        unhidden = (lambda name: "/." not in f"/{name}") if kind == "hidden" else None  # as in the snippet
        found = list(wds.WebDataset(str(root / kind / "0.tar"), shardshuffle=False, select_files=unhidden))
        assert {name for one in found for name in one if not name.startswith("__")} == small
        assert len(found) == len(samples)


def test_names_that_differ_in_every_sample_are_no_columns(tmp_path: Path) -> None:
    samples = [{"real.jpg": JPEG, "fake.png": PNG, "txt": b"", f"part-{n}.txt": b""} for n in range(40)]
    members = [(f"k{n}.{name}", data) for n, one in enumerate(samples) for name, data in one.items()]
    write_members(tmp_path / "0.tar", members)
    adopt(IndexConfig(url=[str(tmp_path)]))
    assert features(tmp_path) == ["real.jpg", "fake.png", "txt"]


def test_card_of_a_manifest_of_an_older_version_names_what_was_looked_for() -> None:
    shard = ShardEntry(name="0", pairs=1, bytes=10, sha256="0" * 64, index_sha256="0" * 64)
    provenance = {
        "adopted": {"real": ["jpg", "png"], "fake": ["recon.png"]},
        "autoencoder": {"autoencoder": "tiny"},
    }
    old = Manifest(name="mine", split=None, shards=(shard,), rejected=0, provenance=provenance)
    text = card([Part(manifest=old, names=["0.tar"])]).decode()
    assert 'pair["jpg"] or pair["png"]' in text
    assert "json" not in text.split("---\n")[1]


def test_card_says_that_other_readers_meet_samples_which_are_no_pairs(tmp_path: Path) -> None:
    write_members(tmp_path / "0.tar", [("a.real.jpg", JPEG), ("a.fake.png", PNG), ("b.real.jpg", JPEG)])
    adopt(IndexConfig(url=[str(tmp_path)], skip_incomplete=True))
    text = (tmp_path / "README.md").read_text()
    assert " 1 of their samples are no pairs (`rejected.jsonl`): other readers meet them too" in text
