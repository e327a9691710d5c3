"""A small network that tries to tell the halves of control pairs apart: ``python -m pack.audit --probe net``.

The statistics of the audit see what they were made for; a network may find what nobody thought of. Its pairs,
made by `pack.inspect.audit.net_pairs`, differ in nothing that a detector should learn, so whatever it finds
is a leak. It is cross-validated by photograph, as the logistic regression of `probe`. It is small and
sees few pairs: a larger detector may find more.

Shapes: N pairs, 2 halves (real, fake), B images, 3 channels, S pixels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pack.inspect.audit.net_pairs import ControlPairs
from pack.inspect.audit.nuisances import Finding
from pack.inspect.audit.probe import FOLDS, folds
from pack.inspect.audit.separation import LEAST_PHOTOGRAPHS, Separation, area
from recon.base.device import forked_generators, seed_generators
from recon.base.progress import Progress

STEPS = 200
"""Training steps of each of the `FOLDS` networks."""

_CROP = 64  # pixels: eight JPEG blocks, and a quarter of a window's work
_BATCH = 16  # pairs
_RATE = 4e-3
_SCALE = 4.0  # grey levels that become tanh(1): edges are far stronger than any trace
_CPU = torch.device("cpu")


def judge_net(pairs: ControlPairs, bound: float, *, steps: int = STEPS, seed: int = 0) -> Finding:
    """Trains the networks and says what they found; shows the progress.

    Args:
        pairs: the control pairs.
        bound: the largest area under the ROC curve that is no leak.
        steps: training steps of each network.
        seed: of weights and batches; with equal seeds and threads the result is the same.
    """
    found = net_probe(pairs, steps=steps, seed=seed)
    verdict = "too few" if found is None else "LEAK" if found.low > bound else "ok"
    return Finding(
        name="net",
        real="coding alone",
        fake="",
        verdict=verdict,
        separation=found,
        by="" if found is None else "images",
        bound=bound,
        advice=f"{_advice(found, verdict)} ({pairs.describe()})",
    )


def _advice(found: Separation | None, verdict: str) -> str:
    if found is None:
        return "a network needs control pairs of more photographs"
    if verdict == "LEAK":
        return (
            "a small network tells the halves of control pairs apart, where no decoder's trace can help it; "
            "code both halves alike (--codec match or both), or pack photographs that are no JPEG"
        )
    if found.low == found.high:
        return "the halves of all control pairs are equal: their coding gives nothing away, to any detector"
    return "a small network finds no more than this in the coding; a larger one may find more"


def net_probe(pairs: ControlPairs, *, steps: int = STEPS, seed: int = 0) -> Separation | None:
    """The area under the ROC curve of networks that have not seen the photographs, see `judge_net`.

    Returns:
        The area with its 95 % interval by photograph; None if there are too few photographs for the folds.
    """
    photograph_N = pairs.photographs()
    if len(np.unique(photograph_N)) < max(LEAST_PHOTOGRAPHS, 2 * FOLDS):
        return None
    pairs_N23SS = np.stack(pairs.windows)
    if np.array_equal(pairs_N23SS[:, 0], pairs_N23SS[:, 1]):  # no training finds anything
        return Separation(value=0.5, low=0.5, high=0.5)
    fold_N, logit_N2 = folds(photograph_N), np.zeros(pairs_N23SS.shape[:2])
    with forked_generators(_CPU), Progress(total=FOLDS * steps, unit="steps", what="probe net") as shown:
        for fold in range(FOLDS):
            seed_generators(seed * FOLDS + fold, _CPU)
            net = _trained(torch.from_numpy(pairs_N23SS[fold_N != fold]), steps, shown)
            logit_N2[fold_N == fold] = _scored(net, torch.from_numpy(pairs_N23SS[fold_N == fold]))
    return area(logit_N2[:, 0], logit_N2[:, 1], 0.0, photograph_N)


def _trained(pairs_N23SS: Tensor, steps: int, shown: Progress) -> nn.Module:
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


def _scored(net: nn.Module, pairs_N23SS: Tensor) -> NDArray[np.float64]:
    """(N, 2) logits. Each half in a call of its own, so that equal images get equal logits."""
    with torch.inference_mode():
        halves = [
            [net(part).double() for part in torch.split(half, _BATCH)] for half in pairs_N23SS.unbind(1)
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
