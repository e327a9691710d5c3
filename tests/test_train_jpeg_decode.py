"""Windows that the device decodes from coefficients have the pixels of the host, and of libjpeg-turbo."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import simplejpeg
import torch
from conftest import photograph
from hypothesis import given
from hypothesis import strategies as st
from jpeg_entries import read_entries
from test_train_waiting import reads

from recon.image.codec import Pixels
from recon.jpeg.coefficients import Box, Coefficients, coefficients, needed_mcus
from recon.jpeg.entries import entries_of
from recon.jpeg.frame import read_frame
from train.ops.coded import CodedWindows, most_blocks
from train.ops.decode import decode
from train.window.geometry import cut, mirror
from train.window.masked_batch import Coded, coded_windows
from train.window.part import Part, whole_part

SAMPLINGS = ("420", "422", "444", "440", "Gray")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU"))]


def jpeg(pixels: Pixels, quality: int, sampling: str) -> bytes:
    if sampling == "Gray":
        return simplejpeg.encode_jpeg(
            np.ascontiguousarray(pixels[..., :1]), quality, colorspace="Gray", colorsubsampling="Gray"
        )
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, colorsubsampling=sampling)


def part(data: bytes, box: Box) -> Coefficients:
    """What a box, which may overhang, depends on."""
    frame = read_frame(data)
    assert frame
    entries = read_entries(entries_of(data) or b"", frame)
    assert entries
    spans = zip(box[:2], box[2:], (frame.height, frame.width), strict=True)
    rows, columns = (mirror(*one) for one in spans)
    inside = int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    return coefficients(data, frame, entries, inside)


def window(data: bytes, top: int, left: int, side: int, at: Part | None = None) -> Coded:
    """A window at a place of an image, of which a part is needed, or all."""
    at = at or whole_part(side)
    found = part(data, (top + at.rows.start, left + at.columns.start, *at.size))
    return Coded(coefficients=found, top=top, left=left, part=at)


def on_host(coded: Coded, side: int) -> Pixels:
    """The same window from the host's loops."""
    top, left, *_ = coded.coefficients.box
    frame, pixels, at = coded.coefficients.frame, coded.coefficients.pixels(), coded.part
    rows, columns = mirror(coded.top, side, frame.height) - top, mirror(coded.left, side, frame.width) - left
    out = np.zeros((side, side, 3), np.uint8)
    out[at.rows, at.columns] = pixels[rows[at.rows, None], columns[at.columns]]
    return out


def decoded(coded: list[Coded], side: int, device: str = "cpu") -> Pixels:
    memory = np.empty((most_blocks(side) * len(coded), 64), np.int16)
    windows = coded_windows(list(enumerate(coded)), memory)
    return decode(*tensors(windows, device), side).cpu().numpy()


def tensors(windows: CodedWindows, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    blocks, steps, facts = (
        torch.from_numpy(one).to(device) for one in (windows.blocks_M64, windows.steps_N364, windows.table())
    )
    return blocks, steps, facts


@dataclass(frozen=True)
class Kind:
    """One window of a photograph, of which a share between two places is needed, along both axes."""

    height: int
    width: int
    sampling: str
    quality: int
    top: int
    left: int
    seed: int
    ends: tuple[float, float]


KINDS = st.builds(
    Kind,
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    sampling=st.sampled_from(SAMPLINGS),
    quality=st.integers(1, 100),
    top=st.integers(-40, 90),
    left=st.integers(-40, 90),
    seed=st.integers(0, 999),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)


def pixels_of(kind: Kind) -> Pixels:
    """A photograph, or colours without any smoothness."""
    if kind.seed % 2:
        return np.random.default_rng(kind.seed).integers(0, 256, (kind.height, kind.width, 3), np.uint8)
    return photograph(kind.height, kind.width, kind.seed)


def needed_of(kind: Kind, side: int) -> Part:
    low, high = sorted(round(one * side) for one in kind.ends)
    if low == high:
        return whole_part(side)
    return Part(rows=slice(low, high), columns=slice(side - high, side - low), halo=0)


@given(kinds=st.lists(KINDS, min_size=1, max_size=6), side=st.integers(1, 50))
def test_windows_of_any_images_together_are_libjpegs_and_the_hosts(kinds: list[Kind], side: int) -> None:
    coded, expected = [], []
    for kind in kinds:
        data = jpeg(pixels_of(kind), kind.quality, kind.sampling)
        at = needed_of(kind, side)
        coded.append(window(data, kind.top, kind.left, side, at))
        expected.append(np.zeros((side, side, 3), np.uint8))
        whole = cut(simplejpeg.decode_jpeg(data), (kind.top, kind.left, side, side))
        expected[-1][at.rows, at.columns] = whole[at.rows, at.columns]
    found = decoded(coded, side)
    assert np.array_equal(found, np.stack(expected))
    assert np.array_equal(found, np.stack([on_host(one, side) for one in coded]))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_images_of_one_to_five_pixels_are_libjpegs(sampling: str) -> None:
    coded, expected = [], []
    for height in range(1, 6):
        for width in range(1, 6):
            data = jpeg(photograph(height, width, 7 * height + width), 70, sampling)
            coded.append(window(data, -3, -2, 9))
            expected.append(cut(simplejpeg.decode_jpeg(data), (-3, -2, 9, 9)))
    assert np.array_equal(decoded(coded, 9), np.stack(expected))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_senseless_coefficients_give_the_hosts_pixels(sampling: str) -> None:
    some = part(jpeg(photograph(40, 40, 0), 90, sampling), (0, 0, 40, 40))
    some.blocks[:] = np.random.default_rng(0).integers(-(2**15), 2**15, some.blocks.shape)
    coarse = replace(some.frame, steps=tuple(300 * one for one in some.frame.steps))
    # 32 bits do not hold the sums.
    coded = Coded(coefficients=replace(some, frame=coarse), top=-3, left=5, part=whole_part(40))
    assert np.array_equal(decoded([coded], 40)[0], on_host(coded, 40))


@pytest.mark.parametrize("side", [1, 2, 7, 8, 9, 14, 15, 16, 17, 24, 96, 152])
def test_no_window_has_more_blocks_than_its_memory(side: int) -> None:
    most = 0
    for sampling, per_mcu in (("420", 6), ("422", 4), ("444", 3), ("440", 4)):
        frame = read_frame(jpeg(photograph(400, 400, 0), 50, sampling))
        assert frame
        for place in range(40, 56):
            *_, high, wide = needed_mcus(frame, (place, place, side, side))
            most = max(most, high * wide * per_mcu)
    assert most <= most_blocks(side) <= max(2 * most, 12)


@pytest.mark.parametrize("device", DEVICES)
def test_hundreds_of_windows_are_the_hosts(device: str) -> None:
    rng = np.random.default_rng(1)
    files = [jpeg(photograph(90, 120, seed), 85, sampling) for seed, sampling in enumerate(SAMPLINGS)]
    places = [(files[number % 5], *rng.integers(-20, 80, 2).tolist()) for number in range(130)]
    coded = [window(data, top, left, 40) for data, top, left in places]
    found = decoded(coded, 40, device)
    assert np.array_equal(found, np.stack([on_host(one, 40) for one in coded]))


def prepared(device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    files = [jpeg(photograph(60, 60, seed), 80, sampling) for seed, sampling in enumerate(SAMPLINGS)]
    coded = [window(data, -5, 9, 40) for data in files]
    windows = coded_windows(list(enumerate(coded)), np.empty((5 * most_blocks(40), 64), np.int16))
    return tensors(windows, device)


def test_decoding_reads_nothing_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = prepared("cpu")
    with reads(monkeypatch) as found:
        decode(*sent, 40)
        assert found == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_decoding_on_a_gpu_does_not_wait_for_it() -> None:
    sent = prepared("cuda")
    decode(*sent, 40)  # makes tables
    torch.cuda.set_sync_debug_mode("error")
    try:
        decode(*sent, 40)
    finally:
        torch.cuda.set_sync_debug_mode("default")
