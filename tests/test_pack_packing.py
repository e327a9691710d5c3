"""Runs of packing: the same bytes every time, after any interruption, and never over another dataset."""

import json
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from conftest import photograph, python, save
from pack_runs import config, files, interrupted

from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.dataset.pairs import StoredPair
from pack.inspect.verify import verify
from pack.plan.plan import make_plan
from pack.publish.packing import pack
from pack.shard.writer import ShardWriter
from pack.sources import find_items
from pack.storage import LocalStore
from recon.base.errors import UserError

PAIRS, PUBLICATIONS = 11, 8  # of the photographs at 4 a shard: plan, 3 x (tar, index), manifest


def times(root: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in root.iterdir()}


def test_packing_again_elsewhere_and_from_a_copy_gives_identical_bytes(
    packed: Path, photographs: Path, tmp_path: Path
) -> None:
    pack(config(photographs, tmp_path / "again"))
    pack(config(Path(shutil.copytree(photographs, tmp_path / "photos")), f"{tmp_path}/deep/out/"))
    assert files(tmp_path / "again") == files(packed)
    assert files(tmp_path / "deep/out") == files(packed)


def test_pixels_decoded_ahead_do_not_show_in_the_pairs(
    packed: Path, photographs: Path, tmp_path: Path
) -> None:
    pack(config(photographs, tmp_path / "out", buffer_mb=1))
    assert files(tmp_path / "out") == files(packed)


@pytest.mark.parametrize("first", [0.0, 0.5])
def test_splits_and_no_splits_do_not_share_an_output(photographs: Path, tmp_path: Path, first: float) -> None:
    pack(config(photographs, tmp_path / "out", val_fraction=first))
    before = files(tmp_path / "out")
    with pytest.raises(UserError, match="choose another --out or delete it"):
        pack(config(photographs, tmp_path / "out", val_fraction=0.5 - first))
    assert files(tmp_path / "out") == before


def test_complete_dataset_that_lost_a_file_is_named(packed: Path, photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(packed, tmp_path / "out")
    (tmp_path / "out/shard-000001.tar").unlink()
    with pytest.raises(UserError, match=r"lacks 1 files, e\.g\. shard-000001\.tar"):
        pack(config(photographs, tmp_path / "out"))


def test_finished_dataset_holds_nothing_else(packed: Path) -> None:
    shards = {f"shard-00000{number}.{suffix}" for number in range(3) for suffix in ("tar", "parquet")}
    assert set(files(packed)) == {"README.md", "dataset.json", *shards}


@pytest.mark.parametrize("at", range(PAIRS))
def test_run_interrupted_at_any_pair_resumes_to_the_undisturbed_bytes(
    packed: Path, photographs: Path, tmp_path: Path, at: int
) -> None:
    run = config(photographs, tmp_path / "out")
    assert interrupted(run, ShardWriter, "add", at)
    finished = times(tmp_path / "out")
    assert {name for name in finished if name.endswith(".tar")} == {
        f"shard-{number:06d}.tar" for number in range(at // 4)
    }
    assert "dataset.json" not in finished
    pack(run)
    assert files(tmp_path / "out") == files(packed)
    assert finished.items() - times(tmp_path / "out").items() <= {("plan.json", finished["plan.json"])}


@pytest.mark.parametrize("at", range(PUBLICATIONS))
def test_run_interrupted_before_any_publication_resumes_to_the_undisturbed_bytes(
    packed: Path, photographs: Path, tmp_path: Path, at: int
) -> None:
    run = config(photographs, tmp_path / "out")
    assert interrupted(run, LocalStore, "publish", at)
    with pytest.raises(UserError, match="is no finished dataset"):
        open_dataset(run.out)
    pack(run)
    assert files(tmp_path / "out") == files(packed)


def test_run_interrupted_after_the_manifest_leaves_a_dataset_that_the_next_run_tidies(
    packed: Path, photographs: Path, tmp_path: Path
) -> None:
    run = config(photographs, tmp_path / "out")
    assert interrupted(run, LocalStore, "remove", 0)
    assert open_dataset(run.out).manifest.pairs == PAIRS
    pack(run)
    assert files(tmp_path / "out") == files(packed)


def test_resumed_run_lists_what_the_first_one_rejected(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for number in range(6):
        save(source / f"{number}.png", photograph(8, 8, number))
    (source / "0.jpg").write_bytes(b"")
    (source / "9.jpg").write_bytes(b"text")
    runs = [config(source, tmp_path / name, shard_pairs=3) for name in ("undisturbed", "resumed")]
    pack(runs[0])
    assert interrupted(runs[1], ShardWriter, "add", 4)
    pack(runs[1])
    assert files(tmp_path / "resumed") == files(tmp_path / "undisturbed")
    rejected = (tmp_path / "resumed/rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in rejected] == ["0.jpg", "9.jpg"]


def test_killed_process_resumes_to_the_undisturbed_bytes(
    packed: Path, photographs: Path, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys\n"
        "from pack.command import main\n"
        "from pack.shard.writer import ShardWriter\n"
        "add = ShardWriter.add\n"
        "def killing(self, pair):\n"
        "    add(self, pair)\n"
        "    if pair.key.startswith('grey') and self.rows[1:]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "ShardWriter.add = killing\n"
        "main()\n"
    )
    options = ["--autoencoder", "identity", "--threads", 2, "--shard_pairs", 4]
    killed = python(script, "--source", photographs, "--out", tmp_path / "out", *options)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert any(name.endswith(".partial") for name in files(tmp_path / "out"))
    pack(config(photographs, tmp_path / "out"))
    assert files(tmp_path / "out") == files(packed)


def test_finished_dataset_is_left_alone_by_the_same_command(
    packed: Path, photographs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = Path(shutil.copytree(packed, tmp_path / "out"))
    before = times(out)
    with caplog.at_level("INFO"):
        pack(config(photographs, out))
    assert times(out) == before
    assert f"{out} is complete already, nothing to do" in caplog.messages


@pytest.mark.parametrize(
    "options", [{"codec": "lossless-png"}, {"shard_pairs": 5}, {"limit": 3}, {"name": "x"}]
)
def test_output_that_holds_another_dataset_is_refused_and_left_alone(
    packed: Path, photographs: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    out = Path(shutil.copytree(packed, tmp_path / "out"))
    with pytest.raises(UserError, match=r"holds another dataset .*choose another --out"):
        pack(config(photographs, out, **options))
    assert files(out) == files(packed)


def test_output_that_holds_an_unfinished_other_dataset_is_refused_and_left_alone(
    photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert interrupted(config(photographs, out), ShardWriter, "add", 5)
    before = files(out)
    with pytest.raises(UserError, match="holds an unfinished dataset of other images, options or versions"):
        pack(config(photographs, out, codec="lossless-png"))
    assert files(out) == before


def test_photograph_that_changed_makes_another_dataset(photographs: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(photographs, tmp_path / "photos"))
    assert interrupted(config(source, tmp_path / "out"), ShardWriter, "add", 5)
    save(source / "plain.jpg", photograph(64, 64, 99))
    with pytest.raises(UserError, match="holds an unfinished dataset of other images"):
        pack(config(source, tmp_path / "out"))


def test_plan_does_not_depend_on_where_anything_lies(photographs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photographs, tmp_path / "photos"))
    here = config(photographs, "here", autoencoder="here/vae")
    runs = [here, config(copy, "there", autoencoder="there/vae")]
    plans = [make_plan(find_items(run)[None], run, [{"weights_sha256": "abc"}]) for run in runs]
    assert plans[0].sha256 == plans[1].sha256
    assert make_plan(find_items(here)[None], here, [{"weights_sha256": "d"}]).sha256 != plans[0].sha256


def test_shards_of_somebody_else_are_refused_and_left_alone(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "shard-000000.tar").write_bytes(b"theirs")
    with pytest.raises(UserError, match="holds shards of another run; choose another --out or delete it"):
        pack(config(photographs, out))
    assert files(out) == {"shard-000000.tar": b"theirs"}


def test_manifest_of_another_version_is_refused(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "dataset.json").write_text('{"format": "pairstream/9"}')
    with pytest.raises(UserError, match=r"format 'pairstream/9', expected 'pairstream/2', 'pairstream/3' or"):
        pack(config(photographs, out))


def test_images_that_are_all_rejected_make_no_dataset(tmp_path: Path) -> None:
    source, out = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    for number in range(6):
        (source / f"{number}.jpg").write_bytes(b"" if number else b"text")
    with pytest.raises(UserError, match="none of 6 images became a pair: 5x zero bytes; 1x not a readable"):
        pack(config(source, out))
    assert files(out) == {}


def test_shard_without_a_pair_is_left_out(tmp_path: Path) -> None:
    source, out = tmp_path / "photos", tmp_path / "out"
    for number in range(6):
        save(source / f"{number}.png", photograph(8, 8, number))
    for number in (2, 3):
        (source / f"{number}.png").write_bytes(b"")
    pack(config(source, out, shard_pairs=2))
    names = {"shard-000000", "shard-000002"}
    assert {shard.name for shard in open_dataset(str(out)).manifest.shards} == names
    assert set(files(out)) == {"README.md", "dataset.json", "rejected.jsonl"} | {
        f"{name}.{suffix}" for name in names for suffix in ("tar", "parquet")
    }


def test_doubled_key_is_an_error_that_names_both(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pack.plan.plan.make_key", lambda *_: "same")
    with pytest.raises(UserError, match=r"a/full\.jpg and Grüße/写真\.jpg have the same key same;"):
        pack(config(photographs, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_second_run_beside_the_first_is_refused_and_harms_nothing(
    packed: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, add, refused = config(photographs, tmp_path / "out"), ShardWriter.add, []

    def meddled(writer: ShardWriter, pair: Any) -> None:
        if not refused:
            refused.append(True)
            with pytest.raises(UserError, match="another process is writing"):
                pack(run)
        add(writer, pair)

    monkeypatch.setattr(ShardWriter, "add", meddled)
    pack(run)
    assert files(tmp_path / "out") == files(packed)


def test_full_disk_is_one_line_and_the_run_resumes_when_there_is_room(
    packed: Path, photographs: Path, tmp_path: Path
) -> None:
    run, add = config(photographs, tmp_path / "out"), ShardWriter.add

    def full(writer: ShardWriter, pair: Any) -> None:
        if len(writer.rows) == 2:
            raise OSError(28, "No space left on device")
        add(writer, pair)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardWriter, "add", full)
        with pytest.raises(UserError, match=r"disk full while writing .*shard-000000\.tar"):
            pack(run)
    assert set(files(tmp_path / "out")) == {"plan.json"}
    pack(run)
    assert files(tmp_path / "out") == files(packed)


def test_size_of_shards_follows_shard_mb(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (160, 160, 3), dtype=np.uint8)
        save(source / f"{number:02}.png", pixels)
    pack(config(source, tmp_path / "out", shard_mb=1, shard_pairs=None))
    shards = open_dataset(str(tmp_path / "out")).manifest.shards
    assert len(shards) > 1
    assert len({shard.pairs for shard in shards[:-1]}) == 1
    assert all(0.5 < shard.bytes / 2**20 < 2 for shard in shards[:-1])


def test_splits_are_datasets_of_their_own(photographs: Path, tmp_path: Path) -> None:
    pack(config(photographs, tmp_path / "out", val_fraction=0.4))
    train, val = (open_dataset(str(tmp_path / "out" / split)).manifest for split in ("train", "val"))
    assert (train.split, val.split) == ("train", "val")
    assert train.pairs + val.pairs == PAIRS
    assert train.name == val.name == "photos"


@pytest.fixture
def memory() -> Iterator[str]:
    """URL of a dataset in fsspec's memory."""
    root = f"memory://{uuid.uuid4()}"
    yield f"{root}/data"
    fsspec.filesystem("memory").rm(root, recursive=True)


def test_packing_to_a_url_gives_the_same_objects_and_reads_back(
    packed: Path, photographs: Path, memory: str
) -> None:
    def members(pairs: Iterator[StoredPair]) -> list[dict[str, bytes]]:
        return [pair.members for pair in pairs]

    pack(config(photographs, memory))
    store = open_dataset(memory).store
    assert {name: store.read(name) for name in store.names()} == files(packed)
    assert members(iterate_pairs(memory)) == members(iterate_pairs(str(packed)))


def test_interrupted_run_to_a_url_resumes_to_the_same_objects(
    packed: Path, photographs: Path, memory: str
) -> None:
    assert interrupted(config(photographs, memory), ShardWriter, "add", 6)
    pack(config(photographs, memory))
    store = open_dataset(memory).store
    assert {name: store.read(name) for name in store.names()} == files(packed)


def test_undecodable_and_odd_file_names_survive(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    names = [b"caf\xe9.png", "写真.v1.2.png".encode(), b"new\nline.png", b" .png", b"-.png"]
    for number, name in enumerate(names):
        save(source / "plain.png", photograph(8, 8, number))
        os.rename(os.fsencode(source / "plain.png"), os.path.join(os.fsencode(source), name))
    (source / os.fsdecode(b"\xff.png")).write_bytes(b"")
    pack(config(source, tmp_path / "out"))
    paths = {json.loads(pair.members["json"])["path"] for pair in iterate_pairs(str(tmp_path / "out"))}
    assert paths == {r"caf\xe9.png", "写真.v1.2.png", "new\nline.png", " .png", "-.png"}
    assert json.loads((tmp_path / "out/rejected.jsonl").read_text())["path"] == r"\xff.png"


@pytest.mark.parametrize("harm", ["tar gone", "tar cut", "tar of another size", "index changed"])
def test_finished_shard_that_was_harmed_before_the_resume_is_packed_again(
    packed: Path, photographs: Path, tmp_path: Path, harm: str
) -> None:
    out = tmp_path / "out"
    assert interrupted(config(photographs, out), ShardWriter, "add", 5)
    tar, index = out / "shard-000000.tar", out / "shard-000000.parquet"
    if harm == "tar gone":
        tar.unlink()
    elif harm == "index changed":
        index.write_bytes(index.read_bytes()[:-8] + bytes(8))
    else:
        tar.write_bytes(tar.read_bytes()[:-1] if harm == "tar cut" else tar.read_bytes() + b"x")
    pack(config(photographs, out))
    assert files(out) == files(packed)


def test_finished_shards_are_not_read_again_but_for_their_indexes(
    packed: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert interrupted(config(photographs, out), ShardWriter, "add", 9)
    read: list[str] = []

    def noting(method: Any) -> Any:
        def call(store: LocalStore, name: str, *arguments: Any) -> Any:
            read.append(name)
            return method(store, name, *arguments)

        return call

    for method in ("read", "head", "read_range"):
        monkeypatch.setattr(LocalStore, method, noting(getattr(LocalStore, method)))
    finished = {"shard-000000.parquet", "shard-000001.parquet"}
    monkeypatch.setattr("pack.publish.packing.finish", lambda *_: [])
    pack(config(photographs, out))
    assert {name for name in read if name.startswith("shard-")} == finished
    assert not [name for name in read if name.endswith(".tar")]
    monkeypatch.undo()
    pack(config(photographs, out))
    assert files(out) == files(packed)


def test_bytes_of_a_finished_shard_that_changed_in_place_are_left_to_verify(
    photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert interrupted(config(photographs, out), ShardWriter, "add", 5)
    tar = out / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-8] + b"\1" * 8)
    pack(config(photographs, out))
    assert list(verify(open_dataset(str(out)))) == ["shard-000000.tar: sha256 differs from the manifest"]
