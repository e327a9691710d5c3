"""Entry points and colours: packing writes them, `pack.verify` checks, `pack.index --entries` adds them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph, run, save
from pack_runs import Interruption, config, files
from rewritten_indexes import Row, optional, rewritten, unhinted
from several_fakes import pack_fakes, write_autoencoders
from stranger_tars import image, pair, write_samples

from pack.adopt import command as index
from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.dataset.pairs import StoredPair
from pack.inspect import info, verify
from pack.publish import finish_command
from pack.publish.packing import pack
from pack.shard.pair import hint_columns
from pack.shard.schema import BARE_FAKES, HINT_COLUMNS, MORE_FAKES
from pack.storage import LocalStore
from recon.base.errors import UserError
from recon.image.codec import decode_rgb
from recon.image.colours import colours_of
from recon.jpeg.entries import entries_of, read_entries
from recon.jpeg.frame import read_frame


def rows_of(root: Path) -> list[Row]:
    dataset = open_dataset(str(root))
    return [row for n in range(len(dataset.manifest.shards)) for row in dataset.table(n).to_pylist()]


def add(root: Path | str) -> None:
    adopt(IndexConfig(url=[str(root)], entries=True))


def check(root: Path) -> list[StoredPair]:
    """All pairs, after each hint was compared with what the stored bytes alone give."""
    pairs = list(iterate_pairs(str(root)))
    for one in pairs:
        images = {"real": one.real} | {f"fake{n + 1}" if n else "fake": d for n, d in enumerate(one.fakes)}
        assert one.hints.keys() == images.keys()
        for name, data in images.items():
            assert one.hints[name].colours == colours_of(decode_rgb(data)).packed()
            assert one.hints[name].entries == entries_of(data)
    return pairs


@pytest.mark.parametrize("codec", ["match", "lossless-png", "lossless-webp", "both"])
def test_packing_writes_what_the_stored_bytes_give(photographs: Path, tmp_path: Path, codec: str) -> None:
    options = {"quality": 80} if codec == "both" else {}
    pack(config(photographs, tmp_path / "out", codec=codec, **options))
    pairs = check(tmp_path / "out")
    jpegs = [one for one in pairs if one.real.startswith(b"\xff\xd8")]
    assert any(one.hints["real"].entries for one in jpegs)
    for one in jpegs:
        frame = read_frame(one.real)
        entries = one.hints["real"].entries
        assert (entries is None) == (frame is None)
        assert frame is None or (entries is not None and read_entries(entries, frame) is not None)


@pytest.mark.parametrize("policy", ["match", "keep"])
def test_given_reconstructions_and_tiles_get_their_own(
    photographs: Path, tmp_path: Path, policy: str
) -> None:
    for number, suffix in enumerate(("jpg", "png", "webp")):
        pixels = photograph(40, 48, number)
        save(tmp_path / f"real/{number}.{suffix}", pixels)
        noisy = (pixels.astype(np.int16) + number).clip(0, 255).astype(np.uint8)
        save(tmp_path / f"fake/{number}.{'jpg' if suffix == 'jpg' else 'png'}", noisy)
    pack(config(tmp_path / "real", tmp_path / "given", reconstructions=str(tmp_path / "fake"), codec=policy))
    assert len(check(tmp_path / "given")) == 3
    pack(config(photographs, tmp_path / "tiles", tile=16, codec="lossless-png"))
    assert all(one.hints["real"].entries is None for one in check(tmp_path / "tiles"))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photographs with three fakes each; to be read only."""
    root = tmp_path_factory.mktemp("several")
    for number in range(5):
        save(root / f"photos/{number}.{'jpg' if number % 2 else 'png'}", photograph(24, 32, number))
    return pack_fakes(root / "photos", root / "out", write_autoencoders(root), "all")


def test_each_of_several_fakes_has_its_own_and_they_can_be_added(several: Path, tmp_path: Path) -> None:
    pairs = check(several)
    assert all(len({hint.colours for hint in one.hints.values()}) == 4 for one in pairs)
    root = unhinted(Path(shutil.copytree(several, tmp_path / "out")), (MORE_FAKES, BARE_FAKES))
    assert list(verify.verify(open_dataset(str(root)))) == []
    assert all(not one.hints for one in iterate_pairs(str(root)))
    add(root)
    assert rows_of(root) == rows_of(several)
    assert list(verify.verify(open_dataset(str(root)))) == []


def test_verify_finds_a_hint_that_is_not_that_of_its_image(packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "photos"))
    keys = [row["key"] for row in rows_of(root)]
    wrong = {0: ("real_colours", b"x" * 704), 2: ("real_colours", None), 5: ("fake_entries", b"\x01")}

    def spoilt(row: Row) -> Row:
        column, value = wrong.get(keys.index(row["key"]), ("", None))
        return row | {column: value} if column else row

    rewritten(root, spoilt, optional(*HINT_COLUMNS))
    assert list(verify.verify(open_dataset(str(root)))) == [
        f"shard-00000{number // 4}.parquet: {keys[number]}: {column} is not that of the image"
        for number, (column, _) in wrong.items()
    ]


def test_entries_are_added_to_a_packed_dataset_and_no_tar_changes(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = unhinted(Path(shutil.copytree(packed, tmp_path / "photos")))
    before, sha256 = files(root), open_dataset(str(root)).manifest.sha256
    assert all(not one.hints for one in iterate_pairs(str(root)))
    caplog.set_level("INFO")
    assert run(monkeypatch, index.main, "--entries", root) == 0
    dataset = open_dataset(str(root))
    told = f"its manifest is now {dataset.manifest.sha256}; runs that pinned {sha256} can't be resumed on it"
    assert told in caplog.text
    assert dataset.manifest.provenance["entries"] == {"sha256": sha256}
    after = files(root)
    changed = {name for name, data in after.items() if before.get(name) != data}
    assert changed == {"dataset.json"} | {name for name in before if name.endswith(".parquet")}
    assert rows_of(root) == rows_of(packed)
    assert run(monkeypatch, verify.main, root) == 0
    assert run(monkeypatch, finish_command.main, root) == 0
    add(root)
    assert "has entry points and colours already, nothing to do" in caplog.text
    assert files(root) == after


def test_info_says_how_many_pairs_have_entries(packed: Path, tmp_path: Path) -> None:
    both = {row["key"] for row in rows_of(packed) if row["real_entries"] and row["fake_entries"]}
    assert 0 < len(both) < 11
    found = info.describe(open_dataset(str(packed)))["counts"]["entries"]
    assert found == {"real and fake": len(both), "none": 11 - len(both)}
    bare = unhinted(Path(shutil.copytree(packed, tmp_path / "photos")))
    assert info.describe(open_dataset(str(bare)))["counts"]["entries"] == {"none": 11}


def test_a_dataset_that_has_them_is_left_alone(packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "photos"))
    add(root)
    assert files(root) == files(packed)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_adding_that_was_stopped_ends_with_the_same_bytes(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    one, other = (unhinted(Path(shutil.copytree(packed, tmp_path / name))) for name in "ab")
    add(other)
    manifest = (one / "dataset.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "publish", Interruption(LocalStore.publish, at))
        with pytest.raises(KeyboardInterrupt):
            add(one)
    assert (one / "dataset.json").read_bytes() == manifest, "the manifest comes last"
    add(one)
    assert files(one) == files(other)


def test_adding_refuses_a_damaged_dataset_and_keeps_its_manifest(packed: Path, tmp_path: Path) -> None:
    root = unhinted(Path(shutil.copytree(packed, tmp_path / "photos")))
    manifest = (root / "dataset.json").read_bytes()
    row = rows_of(root)[5]
    with (root / "shard-000001.tar").open("r+b") as file:
        file.seek(row["fake_offset"] + 30)
        file.write(b"damage")
    with pytest.raises(UserError, match=rf"{row['key']} is damaged \(CRC-32 of fake differs\)"):
        add(root)
    path = root / "shard-000002.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    shutil.copy(packed / "shard-000001.tar", root)
    with pytest.raises(
        UserError, match=r"shard-000002.parquet differs from the manifest \(sha256\); restore"
    ):
        add(root)
    assert (root / "dataset.json").read_bytes() == manifest


def test_adopted_tars_have_them_and_older_ones_get_them(tmp_path: Path) -> None:
    broken = {"real.jpg": image(3)[:-200], "fake.png": image(3, "PNG")}
    write_samples(tmp_path / "a.tar", [pair(0), pair(1), pair(2, **broken), pair(3)])
    adopt(IndexConfig(url=[str(tmp_path)]))
    rows = rows_of(tmp_path)
    assert [row["real_entries"] is None for row in rows] == [False, False, True, False]
    assert [row["real_colours"] is None for row in rows] == [False, False, True, False]
    for row, one in zip(rows, iterate_pairs(str(tmp_path)), strict=True):
        for member, data in (("real", one.real), ("fake", one.fake)):
            expected = hint_columns(data)
            assert {name: row[f"{member}_{name}"] for name in expected} == expected
    assert list(verify.verify(open_dataset(str(tmp_path)))) == []


def test_options_of_new_tars_are_refused_where_the_index_is_there(packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "photos"))
    message = f"real=jpg would be ignored: {root} is indexed already; leave it out"
    with pytest.raises(UserError, match=message):
        adopt(IndexConfig(url=[str(root)], entries=True, real="jpg"))
