"""A small network, trained within a minute to tell the halves of pairs apart: see `coding` and `used_on`.

Shapes: N pairs, 2 halves (real, fake), B images, 3 channels, S pixels.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pack.inspect.audit.judge.probe import FOLDS, folds
from pack.inspect.audit.judge.separation import LEAST_PHOTOGRAPHS
from recon.base.device import forked_generators, seed_generators
from recon.base.progress import Progress
from recon.image.codec import Pixels

SIDE = 128
"""Side in pixels of the windows that the network sees; smaller images are mirrored."""
STEPS = 200
"""Training steps of a network."""
PAIRS = 400
"""Most pairs that it is trained on; 96 KiB of memory each."""

_CROP = 64  # pixels: eight JPEG blocks, and a quarter of a window's work
_BATCH = 16  # pairs
_RATE = 4e-3
_SCALE = 4.0  # grey levels that become tanh(1): edges are far stronger than any trace
_CPU = torch.device("cpu")


def window(pixels: Pixels, middle: tuple[float, float] = (0.5, 0.5)) -> NDArray[np.uint8]:
    """(3, SIDE, SIDE) of an image.

    Args:
        pixels: (H, W, C) uint8.
        middle: where the window lies, from 0 (top, left) to 1; by default in the centre.
    """
    top, left = (
        int(place * max(0, side - SIDE)) for place, side in zip(middle, pixels.shape[:2], strict=True)
    )
    part = pixels[top : top + SIDE, left : left + SIDE]
    missing = [(0, SIDE - side) for side in part.shape[:2]]
    mirrored = np.pad(part, (*missing, (0, 0)), mode="symmetric")
    return np.broadcast_to(np.moveaxis(mirrored, 2, 0), (3, SIDE, SIDE)).copy()


def are_enough(photograph_N: NDArray[np.int64]) -> bool:
    """Whether pairs of these photographs can be cross-validated."""
    return len(np.unique(photograph_N)) >= max(LEAST_PHOTOGRAPHS, 2 * FOLDS)


def cross_validated(
    pairs_N23SS: NDArray[np.uint8],
    photograph_N: NDArray[np.int64],
    steps: int,
    *,
    what: str,
    seed: int = 0,
) -> Iterator[tuple[NDArray[np.bool_], nn.Module]]:
    """Trains `FOLDS` networks; yields each with the (N,) pairs whose photographs it has not seen.

    Args:
        pairs_N23SS: windows.
        photograph_N: number of each pair's photograph.
        steps: of training, for each network.
        what: name of the progress bar.
        seed: of weights and batches; with equal seeds and threads the networks are the same.
    """
    fold_N = folds(photograph_N)
    with forked_generators(_CPU), Progress(total=FOLDS * steps, unit="steps", what=what) as shown:
        for fold in range(FOLDS):
            seed_generators(seed * FOLDS + fold, _CPU)
            yield fold_N == fold, _trained(torch.from_numpy(pairs_N23SS[fold_N != fold]), steps, shown)


def _trained(pairs_N23SS: Tensor, steps: int, shown: Progress) -> nn.Module:
    """A network that was trained to call the second half of each pair fake.

    Args:
        pairs_N23SS: uint8 windows.
        steps: of training.
        shown: counts them.
    """
    net = _network().train()
    optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    label_B = torch.tensor([0.0, 1.0]).repeat(_BATCH)
    for _ in range(steps):
        logit_B = net(_batch(pairs_N23SS).flatten(0, 1))
        loss = F.binary_cross_entropy_with_logits(logit_B, label_B)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        shown.update()
    return net.eval()


def _batch(pairs_N23SS: Tensor) -> Tensor:
    """Random pairs, cropped and turned, both halves alike: (`_BATCH`, 2, 3, `_CROP`, `_CROP`)."""
    number, _, _, side, _ = pairs_N23SS.shape
    places = torch.randint(side - _CROP + 1, (_BATCH, 2)).tolist()
    chosen = torch.randint(number, (_BATCH,)).tolist()
    crops = [
        pairs_N23SS[one, ..., top : top + _CROP, left : left + _CROP]
        for one, (top, left) in zip(chosen, places, strict=True)
    ]
    turns, mirrored = torch.randint(4, ()).item(), torch.randint(2, ()).item()
    turned = torch.stack(crops).rot90(int(turns), (-2, -1))
    return turned.flip(-1) if mirrored else turned


def scored(net: nn.Module, windows_NP3SS: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, P) logits of windows, above 0 for fake.

    Each half is in a call of its own, so that equal images get equal logits.
    """
    with torch.inference_mode():
        halves = [
            [net(part).double() for part in torch.split(half, _BATCH)]
            for half in torch.from_numpy(windows_NP3SS).unbind(1)
        ]
    return np.asarray(torch.stack([torch.cat(half) for half in halves], dim=1))


def _network() -> nn.Module:
    """Maps (B, 3, S, S) uint8 to (B,) logits: high-pass residuals and three convolutions, 7,800 weights."""
    return nn.Sequential(
        _Residual(),
        *_block(6, 16, stride=1),  # traces of coding need the full resolution
        *_block(16, 16, stride=2),
        *_block(16, 32, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 1),
        nn.Flatten(0),
    )


def _block(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(outputs), nn.ReLU()


class _Residual(nn.Module):
    """Third differences along rows and columns, limited by a tanh: they remove content and brightness."""

    def forward(self, x_B3SS: Tensor) -> Tensor:
        """Maps (B, 3, S, S) levels to (B, 6, S - 3, S - 3) in -1..1."""
        taps = torch.tensor([1.0, -3.0, 3.0, -1.0]) / (3 * _SCALE)
        x_B3SS = x_B3SS.float()
        across = F.conv2d(x_B3SS, taps.expand(3, 1, 1, 4), groups=3)[..., 1:-2, :]
        down = F.conv2d(x_B3SS, taps.view(4, 1).expand(3, 1, 4, 1), groups=3)[..., 1:-2]
        return torch.tanh(torch.cat([across, down], dim=1))
