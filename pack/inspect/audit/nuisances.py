"""Which statistics must not tell the classes apart, and what to do where one does.

*Judged* is what a correct packing keeps alike, whatever the autoencoder:

* facts of the files (size, channels, codec, JPEG coding, orientation, ICC profile): share of pairs
  whose images differ; a detector that knows the fact is right in half of it above chance. Size and
  channels may differ nowhere, as the loader cuts both images alike.
* channel means, in pairs and in single images. A mistake in arithmetic moves all pairs by the same
  amount, while an autoencoder's own bias (taesd: +1.9 levels of red, tiny: +.5) varies with the
  picture: only what exceeds .1 level *and* thrice the spread among photographs counts. Where pixels
  pass nearly unchanged there is no autoencoder to blame, and .1 level alone decides. So half a level
  on top of an autoencoder with a larger bias of its own stays unseen.
* empty ends: clipped pixels pile up on level 0 and 255, whoever made them. Beside an empty end
  the image was shifted, whatever its autoencoder; this finds a shift by one under any bias.
* gaps: levels that no pixel has between levels that many have; rounding twice, or a
  contrast stretched in one class only, leaves them. Up to .02 is what photographs have.
* lost level: one level that is such a gap in reconstructions and not in their photographs (63 after
  truncation on the way from [-1, 1], which moves levels 1..63 by one). Gaps of the photographs that
  reconstructions fill are of the source, no mistake.
* JPEG traces: coefficients of the 8x8 blocks on multiples of a step: one class was JPEG and the
  other was not, or coarser, whatever they are stored in now.

*Only shown* is what the trace of a good autoencoder itself moves, so that no bound tells a mistake
from what the detector is to learn: high frequencies, contrast, clipped shares, gradients across the
8-grid (decoders that upsample eightfold have a grid of their own: tiny's is 20 times a JPEG's at quality 90),
bytes a pixel (which follow from the high frequencies). They are kept out of the probe.

*Not looked at* is what only a wrong reconstruction does, and a look at pack.preview shows: exchanged
channels, lost or stronger colour, content that is moved or scaled by a pixel or two.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pack.inspect.audit.images import CLASSES, FACTS, Measurements
from pack.inspect.audit.probe import Probe
from pack.inspect.audit.separation import Numbers, Separation, paired, spread, unpaired

MATCH = "pack with --codec match (or lossless, from real images that are no JPEG)"
ROUNDING = "look for astype(uint8) without rounding, a colour conversion, or an offset in the reconstruction"

_LEVEL = 0.1  # levels; reconstructions by the identity stored as JPEG keep within .08
_OWN_BIAS = 3.0  # times the spread among photographs
_UNCHANGED = 1.5  # levels of scatter between the images of a pair, up to which no autoencoder was there
_CHANNELS = ("red", "green", "blue")
STEPS = {
    **dict.fromkeys(_CHANNELS, _LEVEL),
    "low_end": 0.2,
    "high_end": 0.2,
    "gaps": 0.02,
    "jpeg_traces": 0.1,
}
"""The judged numbers, and the largest difference of each that counts for nothing."""
SHOWN = ("blocking", "blocking_off", "high_frequency", "contrast", "dark", "bright", "bytes_per_pixel")
"""Numbers that are shown and not judged."""

_EXACT = ("size", "channels")
_ADVICE = {
    "size": "the loader needs equal sizes; crop the reconstruction back to its real image and pack again",
    "channels": "grey and colour must stay so in both; pack again with this version",
    "codec": f"the compression itself gives the fake away; {MATCH}",
    "jpeg_quality": f"qualities differ; {MATCH}",
    "jpeg_tables": f"quantisation differs; {MATCH}",
    "jpeg_subsampling": f"chroma subsampling differs; {MATCH}",
    "jpeg_kind": f"the kinds of JPEG differ; {MATCH}",
    "orientation": "readers that apply EXIF rotate one image of a pair only; copy the tag, or drop both",
    "icc": "the colour profile is in one image of a pair only; copy it, or drop both",
    **dict.fromkeys(_CHANNELS, ROUNDING),
    "low_end": f"level 0 is empty where its neighbours are not; {ROUNDING}",
    "high_end": f"level 255 is empty where its neighbours are not; {ROUNDING}",
    "gaps": "one class has empty grey levels; look for truncation to uint8, or stretched contrast",
    "jpeg_traces": "one class carries traces of JPEG that the other lacks; take reals that are no JPEG "
    "or scale them down before reconstruction, or pack with --codec both (match, where there are no tiles)",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the audit."""

    name: str
    real: str
    """The class in short: a median, or the most frequent values."""
    fake: str
    verdict: str
    """``ok``, ``LEAK``, ``shown`` (not judged) or ``too few`` to judge."""
    separation: Separation | None = None
    """The share of decisions that come out right by this alone, .5 being chance."""
    by: str = ""
    """What the separation is of: ``pairs`` compared, or single ``images``."""
    bound: float | None = None
    """What the separation may not exceed."""
    advice: str = ""
    """What it means and what to do; empty unless the verdict is LEAK."""


def judge_facts(sample: Measurements, bound: float) -> list[Finding]:
    """A finding for each fact; the JPEG's are compared where both images are JPEG."""
    return [_judge_fact(sample, name, 0.5 if name in _EXACT else bound) for name in FACTS]


def judge_numbers(sample: Measurements, photograph_N: NDArray[np.int64], bound: float) -> list[Finding]:
    """A finding for each judged number: the worse of comparing pairs and of single images."""
    return [_judge_number(sample, name, photograph_N, bound) for name in STEPS]


def judge_probe(found: Probe | None, bound: float) -> Finding:
    """The finding of the detector that sees nothing but nuisances."""
    name, what = "probe", "all of these"
    if found is None:
        return Finding(name=name, real=what, fake="", verdict="too few", bound=bound)
    strongest = sorted(found.weights, key=lambda one: -abs(found.weights[one]))[:3]
    advice = f"nuisances tell the classes apart, most of all {', '.join(strongest)}; see audit.json"
    return _verdict(name, (what, ""), found.area, "images", bound, advice)


def show_numbers(sample: Measurements, photograph_N: NDArray[np.int64]) -> list[Finding]:
    """The numbers that are not judged, and how well each tells single images apart."""
    return [_show_number(sample, name, photograph_N) for name in SHOWN]


def probe_inputs(sample: Measurements) -> dict[str, tuple[Numbers, Numbers]]:
    """What the probe sees: (N,) of the real images and of the fakes, by name.

    Of gaps, ends and traces whether they exceed the step: smoothing makes traces clearer; of channel
    means what is left without the usual difference within a pair, which `judge_numbers` judges.
    """
    inputs = {name: _beyond(sample, name) for name in STEPS}
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
    """A finding of which not one may be; the first few of its lines are told."""
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
    value = 0.5 + len(differing) / len(both) / 2
    found = Separation(value=value, low=value, high=value)
    advice = _ADVICE[name]
    if differing:
        (real, fake), _ = Counter(differing).most_common(1)[0]
        advice = f"{len(differing)} of {len(both)} pairs differ, as real {real} against fake {fake}: {advice}"
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
    options = {
        "pairs": paired(difference, _steps(sample, name), photograph_N),
        "images": unpaired(real, fake, STEPS[name], photograph_N),
    }
    found = {by: one for by, one in options.items() if one is not None}
    if not found:
        return Finding(name=name, real="-", fake="-", verdict="too few", bound=bound)
    by = max(found, key=lambda one: found[one].low)
    middle = float(np.nanmedian(difference))
    advice = f"fake - real is {middle:+.3g} in the middle: {_ADVICE[name]}"
    return _verdict(name, _medians(sample, name), found[by], by, bound, advice)


def _steps(sample: Measurements, name: str) -> Numbers:
    """(N,) the largest difference of each pair that counts for nothing."""
    scatter_N = np.array([pair.scatter for pair in sample.pairs])
    own_bias = _OWN_BIAS * spread(sample.differences(name)) if name in _CHANNELS else 0.0
    return np.where(scatter_N <= _UNCHANGED, STEPS[name], max(STEPS[name], own_bias))


def judge_levels(sample: Measurements, photograph_N: NDArray[np.int64], bound: float) -> Finding:
    """The finding of the one grey level that fakes lack most."""
    name = "lost_level"
    real, fake = (np.where(empty < 0, np.nan, empty) for empty in map(sample.empty, CLASSES))
    lost = fake - real
    often = (lost == 1).sum(axis=0) - (lost == -1).sum(axis=0)
    level = int(often.argmax()) + 1
    found = paired(np.maximum(lost[:, level - 1], 0), 0.5, photograph_N)
    if found is None:
        return Finding(name=name, real="-", fake="-", verdict="too few", bound=bound)
    shares = [f"{np.nanmean(empty[:, level - 1]):.0%} lack {level}" for empty in (real, fake)]
    advice = f"level {level} is missing in fakes alone: {ROUNDING}"
    return _verdict(name, (shares[0], shares[1]), found, "pairs", bound, advice)


def _show_number(sample: Measurements, name: str, photograph_N: NDArray[np.int64]) -> Finding:
    found = unpaired(sample.values("real", name), sample.values("fake", name), 0.0, photograph_N)
    real, fake = _medians(sample, name)
    return Finding(name=name, real=real, fake=fake, verdict="shown", separation=found, by="images")


def _verdict(
    name: str, shown: tuple[str, str], found: Separation, by: str, bound: float, advice: str
) -> Finding:
    leaks = found.low > bound
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
    real, fake = sample.values("real", name), sample.values("fake", name)
    if name in _CHANNELS:
        return real, fake - np.nanmedian(fake - real)
    beyond = [np.where(np.isnan(one), np.nan, one > STEPS[name]) for one in (real, fake)]
    return beyond[0], beyond[1]


def _medians(sample: Measurements, name: str) -> tuple[str, str]:
    known = [values[~np.isnan(values)] for values in (sample.values(which, name) for which in CLASSES)]
    real, fake = (f"{np.median(values):.4g}" if len(values) else "-" for values in known)
    return real, fake


def _most_common(values: list[str]) -> str:
    """The two most frequent values and their shares."""
    counts = Counter(values).most_common()
    parts = [f"{value} {count / len(values):.0%}" for value, count in counts[:2]]
    return " ".join([*parts, "..."] if len(counts) > 2 else parts)
