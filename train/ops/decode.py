"""From the coefficients of JPEGs to windows of pixels, in tensor arithmetic for all windows together.

It gives the pixels of `recon.jpeg.coefficients`, which are those of libjpeg-turbo, and waits for no result
of the device: all shapes are known on the host. Where the kinds of sampling differ, only the samples that are
looked at do: those of unfiltered chroma are their own neighbours.

    N windows, n of them at a time, M blocks of 8x8, S the side of a window in pixels
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from train.ops.coded import FACTS
from train.ops.dct import decode_blocks
from train.ops.jpeg import ycc_to_rgb

_BLOCKS, _WINDOWS = 1 << 16, 64
"""How many are worked on at a time: each takes some 2 kB, or 2 MB, of the device's memory meanwhile."""

Facts = dict[str, Tensor]
"""(n, 1) numbers of each window, by the names of `FACTS`."""


def decode(blocks_M64: Tensor, steps_N364: Tensor, facts_NF: Tensor, side: int) -> Tensor:
    """Decodes windows.

    Args:
        blocks_M64: see `train.ops.coded.CodedWindows`.
        steps_N364: see there.
        facts_NF: int64, the fields of `FACTS`.
        side: of the windows.

    Returns:
        (N, S, S, 3) uint8 RGB; what overhangs the image mirrors its border. Zeros beyond the needed part.
    """
    samples = _samples(blocks_M64, steps_N364, _named(facts_NF))
    out_NHWC = samples.new_empty((len(facts_NF), side, side, 3))
    for some in _parts(len(facts_NF), _WINDOWS):
        out_NHWC[some] = _windows(samples, _named(facts_NF[some]), side)
    return out_NHWC


def _named(facts_NF: Tensor) -> Facts:
    assert FACTS.names
    return dict(zip(FACTS.names, torch.split(facts_NF, 1, dim=1), strict=True))


def _parts(count: int, step: int) -> Iterator[slice]:
    return (slice(first, first + step) for first in range(0, count, step))


def _samples(blocks_M64: Tensor, steps_N364: Tensor, of: Facts) -> Tensor:
    """(64 M,) uint8 levels, block after block."""
    chroma_N1 = of["mcus_high"] * of["mcus_wide"]
    luma_N1 = chroma_N1 * of["down"] * of["across"]
    chroma_N1 = chroma_N1 * (of["components"] == 3)
    counts = torch.cat([luma_N1, chroma_N1, chroma_N1], dim=1).flatten()
    steps = steps_N364.flatten(0, 1)
    numbers = torch.arange(len(steps), device=steps.device)
    # Told the size, it need not wait for the counts.
    table_M = numbers.repeat_interleave(counts, output_size=len(blocks_M64))
    samples_M64 = torch.empty_like(blocks_M64, dtype=torch.uint8)
    for some in _parts(len(blocks_M64), _BLOCKS):
        samples_M64[some] = decode_blocks(blocks_M64[some], steps.index_select(0, table_M[some]))
    return samples_M64.view(-1)


def _windows(samples: Tensor, of: Facts, side: int) -> Tensor:
    """(n, S, S, 3) uint8."""
    along = torch.arange(side, device=samples.device)
    # What is not needed has no blocks: the nearest needed pixel is read, and replaced at the end.
    needed_y = along.clamp(of["first_row"], of["end_row"] - 1)
    needed_x = along.clamp(of["first_column"], of["end_column"] - 1)
    y_nS, x_nS = _mirrored(of["top"] + needed_y, of["height"]), _mirrored(of["left"] + needed_x, of["width"])
    rows_nS = _row(y_nS - of["mcu_top"] * 8 * of["down"], of["mcus_wide"] * of["across"])
    columns_nS = _column(x_nS - of["mcu_left"] * 8 * of["across"])
    luma_n1SS = _taken(samples, 64 * of["block"], rows_nS, columns_nS)
    chroma_n2SS = _chroma(samples, of, y_nS, x_nS)
    rgb = ycc_to_rgb(luma_n1SS[:, None].double(), chroma_n2SS[:, None].double())
    is_needed_nSS = (needed_y == along)[:, :, None] & (needed_x == along)[:, None, :]
    return rgb[:, 0].movedim(1, -1) * is_needed_nSS[..., None]


def _mirrored(index_nS: Tensor, size_n1: Tensor) -> Tensor:
    """As `train.window.geometry.mirror`."""
    index_nS = index_nS.remainder(2 * size_n1)
    return index_nS.minimum(2 * size_n1 - 1 - index_nS)


def _row(y_nS: Tensor, wide_n1: Tensor) -> Tensor:
    """Where rows of a component begin, in samples from its first one; `wide_n1` blocks lie side by side."""
    return y_nS // 8 * (64 * wide_n1) + y_nS % 8 * 8


def _column(x_nS: Tensor) -> Tensor:
    """Where columns lie, in samples from the beginning of a row."""
    return x_nS // 8 * 64 + x_nS % 8


def _taken(samples: Tensor, first_nC: Tensor, rows_nS: Tensor, columns_nS: Tensor) -> Tensor:
    """(n, C, S, S) samples of components that begin at `first_nC`."""
    place = first_nC[:, :, None, None] + rows_nS[:, None, :, None] + columns_nS[:, None, None, :]
    return samples.index_select(0, place.view(-1)).view(place.shape)


def _chroma(samples: Tensor, of: Facts, y_nS: Tensor, x_nS: Tensor) -> Tensor:
    """(n, 2, S, S) int32 Cb and Cr of each pixel, by the triangle filter of jdsample.c."""
    down, across, wide, is_colour = of["down"], of["across"], of["mcus_wide"], of["components"] == 3
    height, width = (of["height"] + down - 1) // down, (of["width"] + across - 1) // across
    is_narrow = (across == 2) & (width <= 2)  # libjpeg only repeats such few columns
    rows = [
        _row(y - of["mcu_top"] * 8, wide) for y in _neighbours(y_nS, down, height, (down == 2) & ~is_narrow)
    ]
    columns = [
        _column(x - of["mcu_left"] * 8) for x in _neighbours(x_nS, across, width, (across == 2) & ~is_narrow)
    ]
    # A grey image has no chroma: something that is there is read, and replaced at the end.
    begin_n1 = of["block"] + is_colour * of["mcus_high"] * wide * down * across
    first_n2 = 64 * torch.cat([begin_n1, begin_n1 + is_colour * of["mcus_high"] * wide], dim=1)
    bias_nSS = _bias(down, across, y_nS, x_nS)
    total = bias_nSS[:, None].int().expand(-1, 2, -1, -1).contiguous()
    for down_weight, row in zip((3, 1), rows, strict=True):
        for weight, column in zip((3 * down_weight, down_weight), columns, strict=True):
            total.add_(_taken(samples, first_n2, row, column), alpha=weight)
    return torch.where(is_colour[:, :, None, None], total >> 4, 128)


def _neighbours(index_nS: Tensor, halved_n1: Tensor, size_n1: Tensor, filters_n1: Tensor) -> list[Tensor]:
    """The nearer sample of each pixel along an axis, and the farther one; without a filter the nearer again.

    Args:
        index_nS: of the pixels in the image.
        halved_n1: pixels that a sample spans, 1 or 2.
        size_n1: samples of the component.
        filters_n1: whether there is a farther one.
    """
    near = index_nS // halved_n1
    far = (near + index_nS % 2 * 2 - 1).clamp(min=0).minimum(size_n1 - 1)
    return [near, torch.where(filters_n1, far, near)]


def _bias(down_n1: Tensor, across_n1: Tensor, y_nS: Tensor, x_nS: Tensor) -> Tensor:
    """(n, S, S) what is added before the division by 16.

    Where one axis alone is halved, libjpeg divides by 4: there its bias of 1 or 2 becomes 4 or 8.
    """
    is_twice = (down_n1 == 2) & (across_n1 == 2)
    row_nS = 4 * (1 + y_nS % 2) * ((down_n1 == 2) & (across_n1 == 1))
    column_nS = torch.where(is_twice, 8 - x_nS % 2, 4 * (1 + x_nS % 2) * (across_n1 == 2))
    return row_nS[:, :, None] + column_nS[:, None, :]
