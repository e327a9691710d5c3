"""Says beforehand whether other photographs will be taken for fakes: ``pack.audit URL --used_on FOLDER``.

A detector learns what tells the halves of the pairs apart. Photographs from elsewhere may have more of it
than the dataset's own: no traces of an old JPEG compression, another sharpness, other noise. No statistic of
the dataset alone shows that. So small networks are trained on the pairs. Each compares the real images that
it has not seen with the photographs from elsewhere. A detector that is trained for hours sees more, but leans
to the same side: ``python tests/bench_photographs.py`` measures both.

Shapes: N pairs, 2 halves (real, fake), M windows of photographs from elsewhere, 3 channels, S pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pack.base.items import File
from pack.dataset.dataset import Dataset
from pack.inspect.audit.judge.nuisances import Finding
from pack.inspect.audit.judge.separation import (
    LEAST_PHOTOGRAPHS,
    Separation,
    apart,
    area,
    share_below,
)
from pack.inspect.audit.measured.images import MAX_PIXELS, recoded, spread_evenly
from pack.inspect.audit.networks.network import (
    PAIRS,
    SIDE,
    are_enough,
    cross_validated,
    scored,
    window,
)
from pack.inspect.audit.networks.pairs import Windows
from pack.sources.place import check_folder, images, located
from recon.base.errors import RejectedImageError, UserError
from recon.base.progress import counted
from recon.image.codec import Picture, Pixels, decode
from recon.image.jpeg import standard_coding

NAME = "used_on"
UNLIKE = "UNLIKE"
"""The verdict on photographs that look more like fakes than those of the dataset.

``unsure``: too few photographs to say whether they do; ``ok``: the whole interval is within the bound.
"""

STEPS = 600
"""Training steps of each network. With 200 the difference under ``--codec both``, whose traces are weak, was
half of that with 800."""

_LEAST_AREA = 0.7  # networks that tell the dataset's own classes less well say nothing of other photographs


def find(place: str) -> list[File]:
    """At most `PAIRS` of the image files of a folder or URL prefix, spread evenly.

    Raises:
        UserError: there are none.
    """
    where = located(place)
    check_folder(where, "--used_on ")
    found = images(where)
    if not found:
        raise UserError(f"--used_on {place} holds no images, expected photographs to be judged")
    return [found[number] for number in spread_evenly(len(found), PAIRS)]


def quality_of(dataset: Dataset) -> int | None:
    """The JPEG quality at which ``--codec both`` has compressed the real images of a dataset, if it has."""
    options = dataset.manifest.provenance.get("options", {})
    return int(options["quality"]) if options.get("codec") == "both" else None


def read_elsewhere(found: Windows, files: list[File], quality: int | None = None) -> Iterator[None]:
    """Adds windows of the photographs to `found`, at most nine of each; yields after each photograph.

    Args:
        found: gets them.
        files: of `find`.
        quality: of `quality_of`: these are compressed alike, so that they are compared with their like.
    """
    for file in files:
        try:
            picture = decode(file.read(), max_pixels=MAX_PIXELS, convert=True)
        except RejectedImageError as error:
            found.causes.append(f"{file.name}: {error}")
        else:
            windows = _windows(picture.pixels if quality is None else _compressed(picture, quality))
            found.windows.extend(windows)
            found.names.extend([file.name] * len(windows))
        yield


def _compressed(picture: Picture, quality: int) -> Pixels:
    coding = standard_coding(quality, grey=picture.pixels.shape[2] == 1)
    return recoded(picture.pixels, replace(picture, jpeg=coding))


def _windows(pixels: Pixels) -> list[NDArray[np.uint8]]:
    """(1, 3, S, S) each: at corners, edges and centre; only those that differ in a small image."""
    rows, columns = ((0.0, 0.5, 1.0) if side >= 2 * SIDE else (0.5,) for side in pixels.shape[:2])
    return [window(pixels, middle)[None] for middle in product(rows, columns)]


@dataclass(frozen=True, kw_only=True)
class _Called:
    """What the networks make of images whose photographs they have not seen."""

    logit_N2: NDArray[np.float64]
    """Of the halves of each pair, above 0 for fake."""
    below_N: NDArray[np.float64]
    """For each real image of the dataset the share of windows from elsewhere that look more like fakes."""
    logits_FM: NDArray[np.float64]
    """What each of the F networks makes of the windows from elsewhere."""
    above_M: NDArray[np.float64]
    """For each window from elsewhere the share of real images of the dataset that look less like fakes."""


def judge_elsewhere(
    pairs: Windows, others: Windows, place: str, bound: float, *, steps: int = STEPS, seed: int = 0
) -> Finding:
    """Trains the networks and says what they make of the photographs; shows the progress.

    Args:
        pairs: of the dataset, as they are stored.
        others: the photographs from elsewhere.
        place: where these lie, for the finding.
        bound: the largest area under the ROC curve, of the dataset's real images against these photographs,
            at which they are taken for the same.
        steps: training steps of each network.
        seed: of weights and batches; with equal seeds and threads the result is the same.
    """
    photograph_N, photograph_M = pairs.photographs(), others.photographs()
    if not are_enough(photograph_N) or len(np.unique(photograph_M)) < LEAST_PHOTOGRAPHS:
        advice = f"{counted(len(np.unique(photograph_M)), 'photograph')} of {place}{_left_out(others)}"
        return Finding(name=NAME, real="", fake="", verdict="too few", bound=bound, advice=advice)
    called = _called(np.stack(pairs.windows), photograph_N, np.stack(others.windows), steps, seed)
    told = area(called.logit_N2[:, 0], called.logit_N2[:, 1], 0.0, photograph_N)
    assert told
    found = apart(called.below_N, photograph_N, called.above_M, photograph_M)
    own, theirs = float((called.logit_N2[:, 0] < 0).mean()), float((called.logits_FM < 0).mean())
    verdict = "shown" if told.low <= _LEAST_AREA else _verdict(found, bound)
    return Finding(
        name=NAME,
        real=f"{own:.0%} called real",
        fake=f"{theirs:.0%} of {place}",
        verdict=verdict,
        separation=found,
        by="images",
        bound=bound,
        advice=f"{_advice(verdict, place, told)}{_left_out(others)}",
    )


def _verdict(found: Separation, bound: float) -> str:
    if found.low > bound:
        return UNLIKE
    return "ok" if found.high <= bound else "unsure"


def _called(
    pairs_N23SS: NDArray[np.uint8],
    photograph_N: NDArray[np.int64],
    others_M13SS: NDArray[np.uint8],
    steps: int,
    seed: int,
) -> _Called:
    logit_N2, below_N = np.zeros(pairs_N23SS.shape[:2]), np.zeros(len(pairs_N23SS))
    logits_FM, above_FM = [], []
    for unseen_N, net in cross_validated(pairs_N23SS, photograph_N, steps, what=NAME, seed=seed):
        logit_N2[unseen_N] = scored(net, pairs_N23SS[unseen_N])
        logit_M = scored(net, others_M13SS)[:, 0]
        # Only logits of one network can be compared.
        above_FM.append(share_below(logit_N2[unseen_N, 0], logit_M, 0.0))
        below_N[unseen_N] = 1 - share_below(logit_M, logit_N2[unseen_N, 0], 0.0)
        logits_FM.append(logit_M)
    above_M = np.mean(above_FM, axis=0)
    return _Called(logit_N2=logit_N2, below_N=below_N, logits_FM=np.stack(logits_FM), above_M=above_M)


def _advice(verdict: str, place: str, told: Separation) -> str:
    if verdict == UNLIKE:
        return (
            f"photographs of {place} look more like the dataset's fakes than its own photographs do, and a "
            "detector that is trained on it will call more of them fake; pack photographs of their kind too, "
            "from many sources, and no old JPEGs for a detector of photographs that never were JPEG"
        )
    if verdict == "shown":
        area_ = f"area {told.value:.2f}, {told.low:.2f} to {told.high:.2f}"
        return f"small networks hardly tell this dataset's classes apart ({area_}), so this says nothing"
    if verdict == "unsure":
        return (
            f"to small networks, photographs of {place} may look more like fakes than the dataset's own: "
            "so few photographs leave it open; give more"
        )
    return f"to small networks, photographs of {place} look no more like fakes than the dataset's own"


def _left_out(others: Windows) -> str:
    if not others.causes:
        return ""
    return f"; {counted(len(others.causes), 'photograph')} left out: {others.causes[0]}"
