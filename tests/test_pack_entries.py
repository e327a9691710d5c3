"""Entry points and colours: packing writes them, `pack.verify` checks, `pack.index --entries` adds them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph, run, save
from jpeg_entries import read_entries
from pack_runs import Interruption, config, files
from rewritten_indexes import Row, hinted_pairs, optional, unhinted, with_hints
from several_fakes import pack_fakes, write_autoencoders
from stranger_tars import image, pair, write_samples

from pack.adopt import command as index
from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.dataset.pairs import StoredPair
from pack.inspect import info, verify
from pack.publish import finish_command
from pack.publish.finish import check_files
from pack.publish.packing import pack
from pack.shard.hints import MAGIC, Hint
from pack.shard.pair import hint_of
from pack.shard.schema import MORE_FAKES
from pack.storage import LocalStore, open_store
from recon.base.errors import UserError
from recon.image.codec import decode_rgb
from recon.image.colours import colours_of
from recon.jpeg.entries import entries_of
from recon.jpeg.frame import read_frame


def rows_of(root: Path) -> list[Row]:
    dataset = open_dataset(str(root))
    return [row for n in range(len(dataset.manifest.shards)) for row in dataset.table(n).to_pylist()]


def add(root: Path | str) -> None:
    adopt(IndexConfig(url=[str(root)], entries=True))


def pairs_of(root: Path) -> list[StoredPair]:
    """All pairs with their hints, wherever the dataset lies."""
    return [replace(pair, url="") for pair in hinted_pairs(root)]


def check(root: Path) -> list[StoredPair]:
    """All pairs, after each hint was compared with what the stored bytes alone give."""
    pairs = pairs_of(root)
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
    root = unhinted(Path(shutil.copytree(several, tmp_path / "out")), *optional(MORE_FAKES))
    assert list(verify.verify(open_dataset(str(root)))) == []
    assert all(not one.hints for one in pairs_of(root))
    add(root)
    assert pairs_of(root) == pairs
    assert list(verify.verify(open_dataset(str(root)))) == []


def test_verify_finds_a_hint_that_is_not_that_of_its_image(packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "photos"))
    hints = {one.key: one.hints for one in pairs_of(root)}
    keys = list(hints)
    wrong = {
        0: ("real", "colours", b"x" * 704),
        2: ("real", "colours", None),
        5: ("fake", "entries", b"1"),
    }

    def spoilt(row: Row) -> list[Hint]:
        own = dict(hints[row["key"]])
        member, part, value = wrong.get(keys.index(row["key"]), ("", "", None))
        if member:
            own[member] = replace(own[member], **{part: value})
        return list(own.values())

    with_hints(root, spoilt)
    assert list(verify.verify(open_dataset(str(root)))) == [
        f"shard-00000{number // 4}: {keys[number]}: the {part} of {member} are not those of the image"
        for number, (member, part, _) in wrong.items()
    ]


def test_verify_finds_damaged_hints_in_a_tar(packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "photos"))
    path, row = root / "shard-000001.tar", rows_of(root)[5]
    data, where = path.read_bytes(), f"shard-000001.tar: .{row['key']}.hints"
    for place, found in (
        (row["hints_offset"] + 20, f"{where}: CRC-32 differs from the index"),
        (row["hints_offset"] - 512, f"{where}: broken tar header (bad checksum)"),
    ):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        lines = list(verify.verify(open_dataset(str(root))))
        assert lines == [found, "shard-000001.tar: sha256 differs from the manifest"]


def test_verify_finds_each_damage_of_a_file_of_hints(packed: Path, tmp_path: Path) -> None:
    root = unhinted(Path(shutil.copytree(packed, tmp_path / "photos")))
    add(root)
    path, key = root / "shard-000001.hints", rows_of(root)[4]["key"]
    data, found = path.read_bytes(), f"{path.name}: "
    cure = f"; python -m pack.index {root} --entries writes it anew"
    path.write_bytes(data[:25] + bytes([data[25] ^ 1]) + data[26:])
    assert list(verify.verify(open_dataset(str(root)))) == [
        f"{found}{key}: CRC-32 differs from the index{cure}"
    ]
    path.write_bytes(b"P" + data[1:])
    assert list(verify.verify(open_dataset(str(root)))) == [f"{found}it does not begin with {MAGIC!r}{cure}"]
    path.write_bytes(data + b"more")
    expected = f"{found}{len(data) + 4} bytes, the index says {len(data)}{cure}"
    assert list(verify.verify(open_dataset(str(root)))) == [expected]
    path.unlink()
    (line,) = verify.verify(open_dataset(str(root)))
    assert str(path) in line
    (root / "shard-000009.hints").write_bytes(data)
    assert "shard-000009.hints: not in the manifest" in list(verify.verify(open_dataset(str(root))))


def test_entries_are_added_to_a_packed_dataset_and_no_tar_changes(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = unhinted(Path(shutil.copytree(packed, tmp_path / "photos")))
    before, sha256 = files(root), open_dataset(str(root)).manifest.sha256
    assert all(not one.hints for one in pairs_of(root))
    caplog.set_level("INFO")
    assert run(monkeypatch, index.main, "--entries", root) == 0
    dataset = open_dataset(str(root))
    told = f"its manifest is now {dataset.manifest.sha256}; runs that pinned {sha256} can't be resumed on it"
    assert told in caplog.text
    assert dataset.manifest.provenance["entries"] == {"sha256": sha256}
    after = files(root)
    changed = {name for name, data in after.items() if before.get(name) != data}
    indexes = {name for name in before if name.endswith(".parquet")}
    assert changed == {"dataset.json", *indexes, *(name.replace("parquet", "hints") for name in indexes)}
    assert pairs_of(root) == [
        replace(one, url=one.url.replace(str(packed), str(root))) for one in pairs_of(packed)
    ]
    assert run(monkeypatch, verify.main, root) == 0
    assert run(monkeypatch, finish_command.main, root) == 0
    add(root)
    assert "has entry points and colours; python -m pack.verify reads all of them" in caplog.text
    assert files(root) == after


def test_info_says_whether_pairs_have_hints(packed: Path, tmp_path: Path) -> None:
    assert info.describe(open_dataset(str(packed)))["counts"]["hints"] == {"yes": 11}
    bare = unhinted(Path(shutil.copytree(packed, tmp_path / "photos")))
    assert info.describe(open_dataset(str(bare)))["counts"]["hints"] == {"no": 11}


@pytest.mark.parametrize("harm", ["lost", "cut", "flipped", "longer", "emptied", "begun otherwise"])
def test_a_harmed_file_of_hints_is_told_and_written_anew(
    packed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    root = unhinted(Path(shutil.copytree(packed, tmp_path / "photos")))
    add(root)
    before, path = files(root), root / "shard-000001.hints"
    data = path.read_bytes()
    harmed = {
        "cut": data[:-1],
        "flipped": data[:99] + bytes([data[99] ^ 1]) + data[100:],
        "longer": data + b"a",
        "emptied": b"",
        "begun otherwise": b"x" + data[1:],
    }
    if harm == "lost":
        path.unlink()
        with pytest.raises(UserError, match=r"lacks 1 files, e.g. shard-000001.hints"):
            check_files(open_store(str(root)), open_dataset(str(root)).manifest)
    else:
        path.write_bytes(harmed[harm])
    caplog.clear()
    add(root)
    assert "shard-000001.hints was lost or damaged; it is written anew" in caplog.text
    assert files(root) == before


def test_a_file_of_others_with_the_name_of_hints_is_not_replaced(packed: Path, tmp_path: Path) -> None:
    root = unhinted(Path(shutil.copytree(packed, tmp_path / "photos")))
    (root / "shard-000001.hints").write_text("mine")
    with pytest.raises(UserError, match=r"shard-000001.hints is of somebody else"):
        add(root)
    write_samples(tmp_path / "tars" / "a.tar", [pair(0)])
    (tmp_path / "tars" / "a.hints").write_text("mine")
    with pytest.raises(UserError, match=r"a.hints is not of python -m pack.index, which would replace it"):
        adopt(IndexConfig(url=[str(tmp_path / "tars")]))


def test_a_dataset_that_has_them_is_left_alone(packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "photos"))
    add(root)
    assert files(root) == files(packed)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
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
    if at > 1:  # an index has been replaced, not hints alone
        told = rf"python -m pack.index --entries {one} was stopped; give it again"
        with pytest.raises(UserError, match=told):
            list(iterate_pairs(str(one)))
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
    pairs = pairs_of(tmp_path)
    assert [one.hints["real"].entries is None for one in pairs] == [False, False, True, False]
    assert [one.hints["real"].colours is None for one in pairs] == [False, False, True, False]
    for one in pairs:
        assert one.hints == {"real": hint_of(one.real), "fake": hint_of(one.fake)}
    assert list(verify.verify(open_dataset(str(tmp_path)))) == []


def test_options_of_new_tars_are_refused_where_the_index_is_there(packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "photos"))
    message = f"real=jpg would be ignored: {root} is indexed already; leave it out"
    with pytest.raises(UserError, match=message):
        adopt(IndexConfig(url=[str(root)], entries=True, real="jpg"))
