"""Of large images in local files no more is read than the windows need, and the pixels stay the same."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from jpeg_entries import read_entries
from PIL import Image
from rewritten_indexes import unhinted
from test_recon_jpeg import jpeg

from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.base.config import PackConfig
from pack.dataset.cache import BlockCache
from pack.dataset.dataset import Dataset
from pack.dataset.pairs import DamagedPair, StoredPair
from pack.inspect.verify import verify
from pack.publish.packing import pack
from pack.shard.hints import LARGE, PIECE
from pack.storage import LocalStore
from recon.jpeg import frame
from recon.jpeg.coefficients import coefficients, scan_part
from recon.jpeg.entries import entries_of
from recon.jpeg.frame import read_frame
from train.draws.config import AugmentConfig
from train.stream.samples import Sample, sample_of
from train.window.cutter import WindowCutter
from train.window.masked_batch import Views

KINDS: dict[str, dict[str, Any]] = {
    "a": {"quality": 95, "subsampling": 2},
    "b": {"quality": 95, "subsampling": 0, "restart_marker_rows": 3},
    "c": {"quality": 95, "progressive": True},
    "d": {},
    "e": {"quality": 97, "subsampling": 1, "exif": b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\0" + bytes(40_000)},
}
RECIPES = {
    "published": AugmentConfig(),
    "views": AugmentConfig(views=2, crop=48, resized_crop_p=0.6),
    "clean": None,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of several kinds and a PNG, each larger than `LARGE`; to be read only."""
    folder = tmp_path_factory.mktemp("large")
    for number, (name, options) in enumerate(KINDS.items()):
        pixels = photograph(700, 900, number)
        for half, levels in (("real", pixels), ("fake", pixels ^ 4)):
            path = folder / half / f"{name}.{'jpg' if options else 'png'}"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(levels).save(path, **options)
            assert path.stat().st_size > LARGE
    out, fakes = folder / "packed", str(folder / "fake")
    pack(PackConfig(source=str(folder / "real"), reconstructions=fakes, out=str(out), codec="keep"))
    return out


def opened(root: Path) -> Dataset:
    return Dataset(str(root), hints=True, partly=True)


def stored(dataset: Dataset) -> list[StoredPair | DamagedPair]:
    return dataset.read_block(0, 0, len(KINDS))


def cuts(pairs: list[Any], recipe: AugmentConfig | None, seed: int) -> Iterator[Views | DamagedPair]:
    cutter = WindowCutter(recipe, side=64, seed=seed, epoch=0)
    samples: list[Sample | DamagedPair] = [sample_of(pair, 0, 0) for pair in pairs]
    return map(cutter, cutter.drawn(samples))


def same(found: Views | DamagedPair, expected: Views | DamagedPair) -> bool:
    if isinstance(found, DamagedPair) or isinstance(expected, DamagedPair):
        return found == expected
    pairs = zip(found, expected, strict=True)
    return all(np.array_equal(a.windows_PHWC, b.windows_PHWC) and a.grey_P == b.grey_P for a, b in pairs)


@pytest.mark.parametrize("name", RECIPES)
def test_windows_are_those_of_files_that_were_read_whole(root: Path, name: str) -> None:
    for seed in range(3):
        parts, whole = stored(opened(root)), stored(Dataset(str(root)))
        ranged = [sorted(pair.ranged) for pair in parts if isinstance(pair, StoredPair)]
        assert ranged == [
            ["fake.jpg", "real.jpg"],
            ["fake.jpg", "real.jpg"],
            [],
            [],
            ["fake.jpg", "real.jpg"],
        ]
        for found, expected in zip(
            cuts(parts, RECIPES[name], seed), cuts(whole, RECIPES[name], seed), strict=True
        ):
            assert same(found, expected)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Where each read of a file begins, and its length."""
    read, found = LocalStore.read_range, list[tuple[int, int]]()

    def counted(store: LocalStore, name: str, start: int, length: int, **options: Any) -> memoryview:
        found.append((start, length))
        return read(store, name, start, length, **options)

    monkeypatch.setattr(LocalStore, "read_range", counted)
    return found


def test_a_small_window_takes_a_small_part_of_the_bytes(root: Path, reads: list[tuple[int, int]]) -> None:
    dataset = opened(root)
    pair = dataset.read_block(0, 0, 1)
    list(cuts(pair, None, 0))
    taken = [length for _, length in reads]
    assert sum(taken) < dataset.index(0).span(0, 1)[1] / 3
    assert max(taken) < LARGE


def test_a_window_takes_one_read_of_each_image(root: Path, reads: list[tuple[int, int]]) -> None:
    dataset = opened(root)
    index, last = dataset.index(0), len(KINDS) - 1
    reads.clear()
    list(cuts(dataset.read_block(0, last, 1), None, 0))
    # The hints, the JSON and, in the middle of each image, its window: they have its header.
    assert len(reads) == 4
    assert not {int(one) for one in index.offsets[last, :2]} & {start for start, _ in reads}


def test_hints_without_headers_as_earlier_versions_wrote_them_do_too(
    root: Path, tmp_path: Path, reads: list[tuple[int, int]]
) -> None:
    out = unhinted(Path(shutil.copytree(root, tmp_path / "earlier")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame, "bare_header", lambda _: b"")
        adopt(IndexConfig(url=[str(out)], entries=True))
    assert list(verify(Dataset(str(out)))) == []
    reads.clear()
    found = list(cuts(stored(opened(out)), None, 0))
    assert {int(one) for one in opened(out).index(0).offsets[0, :2]} <= {start for start, _ in reads}
    assert all(map(same, found, cuts(stored(opened(root)), None, 0)))


def test_whoever_needs_bytes_gets_them(root: Path, tmp_path: Path) -> None:
    bare = stored(Dataset(str(root)))
    cache = BlockCache(str(tmp_path / "cache"), 1 << 30)
    for dataset in (
        Dataset(str(root), hints=True),
        Dataset(str(root), hints=True, partly=True, cache=cache),
        Dataset(str(root), partly=True),
    ):
        assert [replace(pair, hints={}) for pair in stored(dataset) if isinstance(pair, StoredPair)] == bare
    for pair, one in zip(stored(opened(root)), bare, strict=True):
        assert isinstance(pair, StoredPair)
        members = pair.members | {name: ranged.whole() for name, ranged in pair.ranged.items()}
        assert isinstance(one, StoredPair)
        assert members == one.members


def flipped(root: Path, tmp_path: Path, place: int) -> Path:
    """A copy of the dataset with another byte in its tar."""
    out = tmp_path / "flipped"
    out.mkdir(exist_ok=True)
    for path in root.iterdir():
        data = bytearray(path.read_bytes())
        if path.suffix == ".tar":
            data[place] ^= 16
        (out / path.name).write_bytes(data)
    return out


def test_a_damaged_piece_is_damage_where_it_is_needed_and_nowhere_else(root: Path, tmp_path: Path) -> None:
    index = opened(root).index(0)
    (expected,) = cuts(stored(Dataset(str(root)))[:1], None, 0)
    offset, size = int(index.offsets[0, 0]), int(index.sizes[0, 0])
    found = set()
    for place in range(offset, offset + size, PIECE):
        hurt = opened(flipped(root, tmp_path, place))
        (cut,) = cuts(stored(hurt)[:1], None, 0)
        if isinstance(cut, DamagedPair):
            assert cut.cause == "CRC-32 of real differs"
            assert cut.key == index.keys[0]
        else:
            assert same(cut, expected)
        found.add(type(cut))
    assert len(found) == 2, "the window needs some pieces, not all"


def test_damaged_hints_and_small_members_are_told_as_of_whole_files(root: Path, tmp_path: Path) -> None:
    index = opened(root).index(0)
    assert index.hints
    for place, member in ((int(index.hints.offsets[1]), "hints"), (int(index.offsets[1, 2]), "json")):
        found = stored(opened(flipped(root, tmp_path, place + 3)))[1]
        assert isinstance(found, DamagedPair)
        assert found.cause == f"CRC-32 of {member} differs"


def test_damaged_hints_beside_a_tar_are_damage_too(root: Path, tmp_path: Path) -> None:
    out = unhinted(Path(shutil.copytree(root, tmp_path / "beside")))
    adopt(IndexConfig(url=[str(out)], entries=True))
    whole = stored(opened(out))
    assert [bool(pair.ranged) for pair in whole if isinstance(pair, StoredPair)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    (path,) = out.glob("*.hints")
    data = bytearray(path.read_bytes())
    data[99] ^= 1
    path.write_bytes(data)
    first, *others = stored(opened(out))
    assert isinstance(first, DamagedPair)
    assert first.cause == "CRC-32 of hints differs"
    assert not [pair for pair in others if isinstance(pair, DamagedPair)]


def test_a_piece_that_came_wrong_once_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, wrong = LocalStore.read_range, list[int]()

    def sometimes_wrong(store: LocalStore, name: str, start: int, length: int, **options: Any) -> memoryview:
        data = read(store, name, start, length, **options)
        if length < PIECE or start in wrong:
            return data
        wrong.append(start)
        return memoryview(bytes(len(data)))

    (expected,) = cuts(stored(Dataset(str(root)))[:1], None, 0)
    monkeypatch.setattr(LocalStore, "read_range", sometimes_wrong)
    (found,) = cuts(stored(opened(root))[:1], None, 0)
    assert wrong
    assert same(found, expected)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_no_byte_outside_of_a_scan_s_part_is_decoded(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(9, 300)), data.draw(st.integers(9, 300))
    options = data.draw(st.sampled_from([{}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 3}]))
    file = jpeg(height, width, data.draw(st.sampled_from(["4:2:0", "4:4:4", "grey"])), 92, **options)
    packed, frame = entries_of(file), read_frame(file)
    assert packed
    assert frame
    entries = read_entries(packed, frame)
    assert entries
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = (top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    start, stop = scan_part(frame, entries, box, len(file))
    assert frame.scan <= start < stop <= len(file)
    expected = coefficients(file, frame, entries, box).blocks
    first = data.draw(st.integers(0, start))
    noise = np.random.default_rng(0).integers(0, 256, len(file), np.uint8).tobytes()
    rest = noise[first:start] + file[start:stop] + noise[stop:]
    np.testing.assert_array_equal(coefficients(rest, frame, entries, box, first).blocks, expected)
    bare = coefficients(memoryview(file)[start:stop], frame, entries, box, start)
    np.testing.assert_array_equal(bare.blocks, expected)
