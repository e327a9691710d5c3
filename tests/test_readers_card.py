"""The card of a dataset: valid, the same at every rerun, never over the text of somebody else."""

import logging
from pathlib import Path

import pytest
from audit_data import planted
from conftest import photograph, run, save
from huggingface_hub import DatasetCard
from pack_runs import config, files
from stranger_tars import pair as sample
from stranger_tars import write_samples

from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.card.card import AUDIT, AUDIT_END, card
from pack.card.front_matter import Part
from pack.dataset.dataset import open_dataset
from pack.inspect.audit import command as audit
from pack.inspect.verify import verify
from pack.publish import finish_command
from pack.publish.packing import pack
from pack.shard.manifest import Manifest, ShardEntry

THEIRS = "# Mine\n"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(10):
        save(tmp_path / f"photos/{number}.png", photograph(16, 16, number))
    return tmp_path / "photos"


def manifest(pairs: int) -> Manifest:
    shard = ShardEntry(name="shard-000000", pairs=pairs, bytes=10, sha256="0" * 64, index_sha256="0" * 64)
    provenance = {"autoencoder": {"autoencoder": "tiny"}, "options": {"codec": "match"}}
    return Manifest(name="mine", split=None, shards=(shard,), rejected=0, provenance=provenance)


def front(path: Path) -> dict[str, object]:
    found: dict[str, object] = DatasetCard.load(path).data.to_dict()
    return found


def test_front_matter_names_tars_columns_and_numbers(photos: Path, tmp_path: Path) -> None:
    pack(config(photos, tmp_path / "out"))
    found = front(tmp_path / "out/README.md")
    assert found["license"] == "unknown"
    assert found["size_categories"] == ["n<1K"]
    assert found["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "*.tar"}]}
    ]
    info = found["dataset_info"]
    assert isinstance(info, dict)
    assert [one["name"] for one in info["features"]] == ["real.png", "fake.png", "json", "__key__", "__url__"]
    assert [(one["name"], one["num_examples"]) for one in info["splits"]] == [("train", 10)]


@pytest.mark.parametrize(
    ("pairs", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (999_999, "100K<n<1M"), (20_000_000, "10M<n<100M")],
)
def test_size_is_a_category_of_the_hub(tmp_path: Path, pairs: int, category: str) -> None:
    (tmp_path / "README.md").write_bytes(card([Part(manifest=manifest(pairs), names=["shard-000000.tar"])]))
    assert front(tmp_path / "README.md")["size_categories"] == [category]


def test_rerun_writes_the_same_cards_and_keeps_what_stands_in_them(photos: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pack(config(photos, tmp_path / name, val_fraction=0.4))
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert {"README.md", "train/README.md", "val/README.md"} <= files(tmp_path / "one").keys()
    for folder in ("", "train/"):
        path = tmp_path / f"one/{folder}README.md"
        path.write_text(path.read_text().replace("license: unknown", "license: cc0-1.0"))
    before = files(tmp_path / "one")
    pack(config(photos, tmp_path / "one", val_fraction=0.4))
    assert files(tmp_path / "one") == before


def test_card_above_waits_for_all_splits(photos: Path, tmp_path: Path) -> None:
    options = {"val_fraction": 0.4, "world_size": 2, "shard_pairs": 2}
    pack(config(photos, tmp_path / "out", rank=0, **options))
    assert not (tmp_path / "out/README.md").exists()
    pack(config(photos, tmp_path / "out", rank=1, **options))
    pack(config(photos, tmp_path / "alone", val_fraction=0.4, shard_pairs=2))
    assert files(tmp_path / "out") == files(tmp_path / "alone")


def test_finish_writes_the_missing_card_above_and_replaces_that_of_other_splits(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(config(photos, tmp_path / "out", val_fraction=0.4))
    above = tmp_path / "out/README.md"
    written = above.read_bytes()
    for there in (None, (tmp_path / "out/train/README.md").read_bytes()):
        above.unlink() if there is None else above.write_bytes(there)
        assert run(monkeypatch, finish_command.main, tmp_path / "out") == 0
        assert above.read_bytes() == written
    above.write_text(THEIRS)
    assert run(monkeypatch, finish_command.main, tmp_path / "out") == 0
    assert above.read_text() == THEIRS


def test_readme_of_somebody_else_stays_and_that_is_said(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_text(THEIRS)
    pack(config(photos, tmp_path / "out"))
    assert (tmp_path / "out/README.md").read_text() == THEIRS
    assert caplog.messages == [
        f"{tmp_path}/out/README.md stays as it is; load_dataset of Hugging Face's datasets may read the "
        "indexes instead of the images, unless you add configs with data_files: '*.tar' at its top"
    ]


def test_card_of_a_killed_run_is_replaced(photos: Path, tmp_path: Path) -> None:
    pack(config(photos, tmp_path / "one"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_bytes(card([Part(manifest=manifest(3), names=[])]))
    pack(config(photos, tmp_path / "out"))
    assert files(tmp_path / "out") == files(tmp_path / "one")


def test_tars_beside_those_of_the_dataset_are_not_in_its_card(tmp_path: Path) -> None:
    for name in ("a[1]", "b", "other"):
        write_samples(tmp_path / f"{name}.tar", [sample(ord(name[0]))])
    adopt(IndexConfig(url=[f"{tmp_path}/a[1].tar", f"{tmp_path}/b.tar"], split="part-1"))
    found = front(tmp_path / "README.md")
    data_files = [{"split": "part_1", "path": ["a[[]1].tar", "b.tar"]}]
    assert found["configs"] == [{"config_name": "default", "data_files": data_files}]
    assert "splits" not in str(found["dataset_info"]), "tars of others may hold samples that are no pairs"


def test_audit_puts_its_findings_into_all_cards_in_place_of_earlier_ones(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(config(photos, tmp_path / "out", val_fraction=0.4))
    cards = [tmp_path / f"out/{folder}README.md" for folder in ("", "train/", "val/")]
    before = [path.read_text() for path in cards]
    urls = tmp_path / "out/train", f"{tmp_path}/out/val/"
    for _ in range(2):
        assert run(monkeypatch, audit.main, *urls, "--out", tmp_path / "audit", "--card") == 0
        for path, text in zip(cards, before, strict=True):
            begin, found = path.read_text().split(AUDIT)
            found, end = found.split(AUDIT_END)
            assert found.startswith("\nOf train, val: 0 leaks in 10 pairs of 10 photographs")
            assert "\nnuisance " in found
            assert begin == text.split(AUDIT)[0]
            assert end == text.split(AUDIT_END)[1]
    assert list(verify(open_dataset(str(urls[0])))) == []


@pytest.mark.parametrize(("text", "cause"), [(None, "is missing"), (THEIRS, "is not of pack")])
def test_audit_refuses_a_dataset_without_a_card_before_it_measures(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    cause: str,
) -> None:
    url = planted(tmp_path / "mine", lambda pixels: pixels)
    readme = Path(url) / "README.md"
    readme.unlink(missing_ok=True) if text is None else readme.write_text(text)
    assert run(monkeypatch, audit.main, url, "--card", "--out", tmp_path / "audit") == 2
    error = capsys.readouterr().err
    assert error == f"error: {readme} {cause}, expected the card that packing writes; drop --card\n"
