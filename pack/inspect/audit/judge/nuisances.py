"""Judges the measurements of the audit; `pack.inspect.audit.judge.judged` says what is judged, and why."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pack.inspect.audit.judge import judged
from pack.inspect.audit.judge.judged import CHANNELS, SHOWN, STEPS
from pack.inspect.audit.judge.probe import Probe, folds
from pack.inspect.audit.judge.separation import (
    LEAST_PHOTOGRAPHS,
    Numbers,
    Separation,
    paired,
    smallest_share,
    spread,
    unpaired,
)
from pack.inspect.audit.measured.images import CLASSES, FACTS, Measurements
from recon.image.jpeg_grid import LEAST_SIDE


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the audit."""

    name: str
    real: str
    """A summary of the real images: a median, or the most frequent values."""
    fake: str
    verdict: str
    """``ok``, ``LEAK``, ``shown`` (not judged), ``too few`` photographs to judge, or images ``too small``; of
    ``--used_on`` see `networks.used_on.UNLIKE`."""
    separation: Separation | None = None
    """The share of right decisions by this statistic alone; .5 is chance."""
    by: str = ""
    """What was decided on: ``pairs``, whose images are compared, or single ``images``."""
    bound: float | None = None
    """The largest separation that is no leak."""
    advice: str = ""
    """What a leak means and what to do, or what else the verdict doesn't say."""


def judge_facts(sample: Measurements, bound: float) -> list[Finding]:
    """A finding for each fact; JPEG facts are compared in pairs of which both images are JPEG."""
    # A bound of 0.5 allows no difference at all.
    return [_judge_fact(sample, name, 0.5 if name in judged.EXACT else bound) for name in FACTS]


def judge_numbers(sample: Measurements, photograph_N: NDArray[np.int64], bound: float) -> list[Finding]:
    """A finding for each judged number: by pairs or by single images, whichever separates better."""
    found = [_judge_number(sample, name, photograph_N, bound) for name in STEPS]
    if not any(one.verdict == "LEAK" for one in found if one.name in judged.COLOUR):
        return found
    # Other colours empty the ends of the levels too: the cause is named, not what follows from it.
    return [replace(one, verdict="shown", advice="") if one.name in judged.ENDS else one for one in found]


def judge_photographs(sample: Measurements, photograph_N: NDArray[np.int64], bound: float) -> Finding:
    """The finding on photographs that were JPEG once while their reconstructions were not."""
    name = "jpeg_photographs"
    # Not above 0: a grid in the fake alone may be the decoder's own; `jpeg_traces` judges what is none.
    difference_N = np.minimum(sample.differences("jpeg_before"), 0)
    found = paired(np.nan_to_num(difference_N), 0.5, photograph_N)
    if found is None or np.isnan(difference_N).all():
        return _unknown(sample, name, bound)
    shares = [f"{np.nanmean(sample.values(which, 'jpeg_before')):.0%} were" for which in CLASSES]
    return _verdict(name, (shares[0], shares[1]), found, "pairs", bound, judged.PHOTOGRAPHS)


def judge_beats(sample: Measurements, photograph_N: NDArray[np.int64], bound: float) -> Finding:
    """The finding on one class that was scaled by a few pixels and back."""
    name = "resampled"
    beats_NK = np.stack([pair.beats for pair in sample.pairs])
    known_N = ~np.isnan(beats_NK).any(axis=1)
    beats_NK[~known_N] = 0
    half_N = folds(photograph_N) % 2  # two halves: the fewer, the less they depend on each other
    found = paired(_agreement(beats_NK, half_N), 0.0, photograph_N, either=False)
    if found is None or not known_N.any():
        return _unknown(sample, name, bound)
    strongest = int(np.abs(beats_NK.sum(axis=0)).argmax())
    return _verdict(name, ("", f"{strongest + 1} beats"), found, "pairs", bound, judged.RESAMPLED)


def _agreement(beats_NK: NDArray[np.complex128], fold_N: NDArray[np.int64]) -> Numbers:
    """(N,) above 0 if a pair's sharpness rises where that of the photographs of other folds does.

    The strongest of the K frequencies is looked for in the other folds too: the strongest of the pair's own
    would agree more often than by chance.
    """
    agrees_N = np.zeros(len(beats_NK))
    for fold in np.unique(fold_N):
        own_N = fold_N == fold
        others_K = beats_NK[~own_N].sum(axis=0)
        strongest = int(np.abs(others_K).argmax())
        agrees_N[own_N] = (beats_NK[own_N, strongest] * np.conj(others_K[strongest])).real
    return agrees_N


def show_power(photograph_N: NDArray[np.int64], bound: float) -> Finding:
    """Says how large a share of the pairs must have a leak for this sample to show it."""
    count = len(np.unique(photograph_N))
    share = smallest_share(count, bound)
    value = f"{count} photographs are too few" if share is None else f"leaks in {share:.0%} of the pairs show"
    return shown("power", value)


def judge_probe(found: Probe | None, bound: float) -> Finding:
    """The finding on the detector that sees only nuisances."""
    name, what = "probe", "all of these"
    if found is None:
        return Finding(name=name, real=what, fake="", verdict="too few", bound=bound)
    strongest = sorted(found.weights, key=lambda one: -abs(found.weights[one]))[:3]
    advice = f"nuisances tell the classes apart, most of all {', '.join(strongest)}; see audit.json"
    return _verdict(name, (what, ""), found.area, "images", bound, advice)


def show_numbers(sample: Measurements, photograph_N: NDArray[np.int64]) -> list[Finding]:
    """A finding for each number that is not judged: how well it separates single images."""
    return [_show_number(sample, name, photograph_N) for name in SHOWN]


def probe_inputs(sample: Measurements) -> dict[str, tuple[Numbers, Numbers]]:
    """What the probe sees, by name: (N,) values of the real images and (N,) values of the fakes.

    For gaps, ends and traces the value is whether they exceed the step, because an autoencoder's smoothing
    makes traces clearer. From channel means the median difference within pairs is removed, because
    `judge_numbers` judges that.
    """
    inputs = {name: _beyond(sample, name) for name in judged.PROBED}
    facts: dict[str, Callable[[dict[str, str]], float]] = {
        "width": lambda fact: float(fact["size"].split("x")[0]),
        "height": lambda fact: float(fact["size"].split("x")[1]),
        "grey": lambda fact: float(fact["channels"] == "1"),
        "is_jpeg": lambda fact: float(fact["codec"] == "jpeg"),
        "is_png": lambda fact: float(fact["codec"] == "png"),
        "quality": lambda fact: float(fact.get("jpeg_quality", "nan")),
        "chroma_halved": lambda fact: float(fact.get("jpeg_subsampling", "") == "4:2:0"),
        "progressive": lambda fact: float(fact.get("jpeg_kind", "").startswith("progressive")),
        "turned": lambda fact: float(fact["orientation"] != "none"),
        "profile": lambda fact: float(fact["icc"] != "none"),
    }
    for name, of in facts.items():
        real, fake = ([of(_facts(pair, which)) for pair in sample.pairs] for which in CLASSES)
        inputs[name] = np.array(real, np.float64), np.array(fake, np.float64)
    return inputs


def count_finding(name: str, lines: list[str], advice: str) -> Finding:
    """A finding on faults of which there may be none; the advice shows the first five lines."""
    if not lines:
        return Finding(name=name, real="none", fake="", verdict="ok")
    more = f" ... and {len(lines) - 5} more" if len(lines) > 5 else ""
    text = f"{advice}: {'; '.join(lines[:5])}{more}"
    return Finding(name=name, real=str(len(lines)), fake="", verdict="LEAK", advice=text)


def shown(name: str, value: str) -> Finding:
    """A finding that is not judged."""
    return Finding(name=name, real=value, fake="", verdict="shown")


def _judge_fact(sample: Measurements, name: str, bound: float) -> Finding:
    both = [(pair.real.facts[name], pair.fake.facts[name]) for pair in sample.pairs if _has_fact(pair, name)]
    if not both:
        return Finding(name=name, real="-", fake="-", verdict="ok", bound=bound)
    differing = [one for one in both if one[0] != one[1]]
    value = 0.5 + len(differing) / len(both) / 2  # right where the images differ, a guess elsewhere
    # No interval: a difference in a fact is certain, not an estimate.
    found = Separation(value=value, low=value, high=value)
    advice = judged.ADVICE[name]
    if differing:
        (real, fake), _ = Counter(differing).most_common(1)[0]
        count = f"{len(differing)} of {len(both)} pairs differ"
        advice = f"{count}, e.g. real {real} against fake {fake}: {advice}"
    columns = [_most_common(list(column)) for column in zip(*both, strict=True)]
    return _verdict(name, (columns[0], columns[1]), found, "pairs", bound, advice)


def _has_fact(pair: object, name: str) -> bool:
    return all(name in _facts(pair, which) for which in CLASSES)


def _facts(pair: object, which: str) -> dict[str, str]:
    facts: dict[str, str] = getattr(pair, which).facts
    return facts


def _judge_number(sample: Measurements, name: str, photograph_N: NDArray[np.int64], bound: float) -> Finding:
    real, fake, difference = (
        sample.values("real", name),
        sample.values("fake", name),
        sample.differences(name),
    )
    often_unknown = name in judged.OFTEN_UNKNOWN
    known = np.nan_to_num(difference) if often_unknown else difference  # what is unknown separates nothing
    either = name not in judged.RISING
    options = {"pairs": paired(known, _steps(sample, name), photograph_N, either=either)}
    if not often_unknown:
        options["images"] = unpaired(real, fake, STEPS[name], photograph_N)
    found = {by: one for by, one in options.items() if one is not None}
    if not found or np.isnan(difference).all():
        return _unknown(sample, name, bound)
    by = max(found, key=lambda one: found[one].low)  # `low`, because the verdict compares it with the bound
    middle = float(np.nanmedian(difference))
    advice = f"the median of fake - real is {middle:+.3g}: {judged.ADVICE[name]}"
    return _verdict(name, _medians(sample, name), found[by], by, bound, advice)


def _unknown(sample: Measurements, name: str, bound: float) -> Finding:
    """The finding on a number that no pair has, or too few: some say nothing of clean pairs."""
    enough = len({pair.photograph for pair in sample.pairs}) >= LEAST_PHOTOGRAPHS
    unknown = (*judged.OFTEN_UNKNOWN, *judged.OF_PAIRS)
    verdict = "too few" if not enough or name not in unknown else "ok" if _large(sample) else "too small"
    return Finding(name=name, real="-", fake="-", verdict=verdict, bound=bound)


def _large(sample: Measurements) -> bool:
    """Whether any image is large enough for traces."""
    sizes = [pair.real.facts["size"].split("x") for pair in sample.pairs]
    return any(min(map(int, size)) >= LEAST_SIDE for size in sizes)


def _steps(sample: Measurements, name: str) -> Numbers:
    """(N,) the largest difference of each pair that is ignored."""
    scatter_N = np.array([pair.scatter for pair in sample.pairs])
    own_bias = judged.SPREADS * spread(sample.differences(name)) if name in judged.OWN_BIAS else 0.0
    return np.where(scatter_N <= judged.UNCHANGED, STEPS[name], max(STEPS[name], own_bias))


def judge_levels(sample: Measurements, photograph_N: NDArray[np.int64], bound: float) -> Finding:
    """The finding on the one grey level that fakes lack most often."""
    name = "lost_level"
    real, fake = (np.where(empty < 0, np.nan, empty) for empty in map(sample.empty, CLASSES))
    lost = fake - real
    often = (lost == 1).sum(axis=0) - (lost == -1).sum(axis=0)
    level = int(often.argmax()) + 1  # column 0 is level 1
    # Not below 0: a gap that only the photograph has is no mistake, see above.
    found = paired(np.maximum(lost[:, level - 1], 0), 0.5, photograph_N)
    if found is None:
        return Finding(name=name, real="-", fake="-", verdict="too few", bound=bound)
    shares = [f"{np.nanmean(empty[:, level - 1]):.0%} lack {level}" for empty in (real, fake)]
    advice = f"level {level} is missing only in fakes: {judged.ROUNDING}"
    return _verdict(name, (shares[0], shares[1]), found, "pairs", bound, advice)


def _show_number(sample: Measurements, name: str, photograph_N: NDArray[np.int64]) -> Finding:
    found = unpaired(sample.values("real", name), sample.values("fake", name), 0.0, photograph_N)
    real, fake = _medians(sample, name)
    return Finding(name=name, real=real, fake=fake, verdict="shown", separation=found, by="images")


def _verdict(
    name: str, shown: tuple[str, str], found: Separation, by: str, bound: float, advice: str
) -> Finding:
    leaks = found.low > bound  # the whole interval lies above the bound, so it is hardly chance
    return Finding(
        name=name,
        real=shown[0],
        fake=shown[1],
        separation=found,
        by=by,
        bound=bound,
        verdict="LEAK" if leaks else "ok",
        advice=advice if leaks else "",
    )


def _beyond(sample: Measurements, name: str) -> tuple[Numbers, Numbers]:
    """A judged number of the real images and of the fakes, as the probe sees it; see `probe_inputs`."""
    real, fake = sample.values("real", name), sample.values("fake", name)
    if name in CHANNELS:
        return real, fake - np.nanmedian(fake - real)
    beyond = [np.where(np.isnan(one), np.nan, one > STEPS[name]) for one in (real, fake)]
    return beyond[0], beyond[1]


def _medians(sample: Measurements, name: str) -> tuple[str, str]:
    """The median of each class, as text."""
    known = [values[~np.isnan(values)] for values in (sample.values(which, name) for which in CLASSES)]
    real, fake = (f"{np.median(values):.4g}" if len(values) else "-" for values in known)
    return real, fake


def _most_common(values: list[str]) -> str:
    """The two most frequent values and their shares."""
    counts = Counter(values).most_common()
    parts = [f"{value} {count / len(values):.0%}" for value, count in counts[:2]]
    return " ".join([*parts, "..."] if len(counts) > 2 else parts)
