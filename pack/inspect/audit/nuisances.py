"""Which statistics must not tell the classes apart, and what to do if one does.

*Judged* are statistics that correct packing keeps equal in both classes, with any autoencoder:

* facts of the files (size, channels, codec, JPEG coding, orientation, ICC profile): the share of pairs
  whose images differ. Half of this share is what a detector gains over chance by knowing the fact. Size
  and channels must be equal in all pairs, because the loader cuts both images in the same way.
* channel means, in pairs and in single images. A mistake in arithmetic shifts all pairs by the same
  amount, while an autoencoder's own bias (taesd: +1.9 levels of red, tiny: +.5) varies with the picture.
  So a shift counts only if it exceeds .1 level *and* three times the spread among photographs. If pixels
  pass nearly unchanged, no autoencoder was there, and .1 level alone decides. The audit therefore
  misses a shift of half a level in addition to a larger bias of the autoencoder.
* empty ends: clipped pixels pile up at levels 0 and 255, whatever made them. If the pile is next to an
  empty end, the image was shifted; this finds a shift by one with an autoencoder of any bias.
* gaps: levels without pixels between levels with many. They come from rounding twice, or from contrast
  stretched in one class only. Photographs have up to .02 of them.
* lost level: one level that is a gap in reconstructions but not in their photographs (level 63 after
  truncation on the way from [-1, 1], which moves levels 1..63 by one). Gaps that photographs have and
  reconstructions fill come from the source and are no mistake.
* JPEG traces: coefficients of the 8x8 blocks lie on multiples of a step. One class was JPEG and the
  other was not, or its JPEG was coarser, in whatever format both are stored now.

*Only shown* are statistics that the trace of a good autoencoder changes too, so no bound could separate a
mistake from what the detector should learn: high frequencies, contrast, clipped shares, gradients across
the 8-grid (decoders that upsample eightfold have their own grid: tiny's is 20 times that of a JPEG at quality
90), bytes per pixel (which follow from the high frequencies). The probe does not see them.

*Not examined* are effects that only a wrong reconstruction has and that pack.preview shows at a glance:
exchanged channels, lost or stronger colour, content that is moved or scaled by a pixel or two.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pack.inspect.audit.images import CLASSES, FACTS, Measurements
from pack.inspect.audit.probe import Probe
from pack.inspect.audit.separation import Numbers, Separation, paired, spread, unpaired

MATCH = "pack with --codec match (or lossless, if the real images are no JPEG)"
ROUNDING = "look for astype(uint8) without rounding, a colour conversion, or an offset in the reconstruction"

_LEVEL = 0.1  # levels; identity reconstructions stored as JPEG stay within .08
_OWN_BIAS = 3.0  # times the spread among photographs
_UNCHANGED = 1.5  # levels: if fake - real scatters no more than this, no autoencoder was there
_CHANNELS = ("red", "green", "blue")
STEPS = {
    **dict.fromkeys(_CHANNELS, _LEVEL),
    "low_end": 0.2,
    "high_end": 0.2,
    "gaps": 0.02,
    "jpeg_traces": 0.1,
}
"""The judged numbers, and for each the largest difference that is ignored."""
SHOWN = ("blocking", "blocking_off", "high_frequency", "contrast", "dark", "bright", "bytes_per_pixel")
"""Numbers that are shown and not judged."""

_EXACT = ("size", "channels")
_ADVICE = {
    "size": "the loader needs equal sizes; crop the reconstruction to the size of its real image, pack again",
    "channels": "both images must be grey or both colour; pack again with this version",
    "codec": f"the compression itself gives the fake away; {MATCH}",
    "jpeg_quality": f"qualities differ; {MATCH}",
    "jpeg_tables": f"quantisation differs; {MATCH}",
    "jpeg_subsampling": f"chroma subsampling differs; {MATCH}",
    "jpeg_kind": f"the kinds of JPEG differ; {MATCH}",
    "orientation": "readers that apply EXIF rotate only one image of a pair; copy the tag, or remove both",
    "icc": "only one image of a pair has this colour profile; copy it, or remove both",
    **dict.fromkeys(_CHANNELS, ROUNDING),
    "low_end": f"level 0 is empty, its neighbours are not; {ROUNDING}",
    "high_end": f"level 255 is empty, its neighbours are not; {ROUNDING}",
    "gaps": "one class has empty grey levels; look for truncation to uint8, or stretched contrast",
    "jpeg_traces": "one class has traces of JPEG that the other lacks; use real images that are no JPEG, "
    "scale them down before reconstruction, or pack with --codec both (without tiles: match)",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the audit."""

    name: str
    real: str
    """A summary of the real images: a median, or the most frequent values."""
    fake: str
    verdict: str
    """``ok``, ``LEAK``, ``shown`` (not judged) or ``too few`` to judge."""
    separation: Separation | None = None
    """The share of right decisions by this statistic alone; .5 is chance."""
    by: str = ""
    """What was decided on: ``pairs``, whose images are compared, or single ``images``."""
    bound: float | None = None
    """The largest separation that is no leak."""
    advice: str = ""
    """What the leak means and what to do; empty unless the verdict is LEAK."""


def judge_facts(sample: Measurements, bound: float) -> list[Finding]:
    """A finding for each fact; JPEG facts are compared in pairs of which both images are JPEG."""
    # A bound of 0.5 allows no difference at all.
    return [_judge_fact(sample, name, 0.5 if name in _EXACT else bound) for name in FACTS]


def judge_numbers(sample: Measurements, photograph_N: NDArray[np.int64], bound: float) -> list[Finding]:
    """A finding for each judged number: by pairs or by single images, whichever separates better."""
    return [_judge_number(sample, name, photograph_N, bound) for name in STEPS]


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
    advice = _ADVICE[name]
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
    options = {
        "pairs": paired(difference, _steps(sample, name), photograph_N),
        "images": unpaired(real, fake, STEPS[name], photograph_N),
    }
    found = {by: one for by, one in options.items() if one is not None}
    if not found:
        return Finding(name=name, real="-", fake="-", verdict="too few", bound=bound)
    by = max(found, key=lambda one: found[one].low)  # `low`, because the verdict compares it with the bound
    middle = float(np.nanmedian(difference))
    advice = f"the median of fake - real is {middle:+.3g}: {_ADVICE[name]}"
    return _verdict(name, _medians(sample, name), found[by], by, bound, advice)


def _steps(sample: Measurements, name: str) -> Numbers:
    """(N,) the largest difference of each pair that is ignored."""
    scatter_N = np.array([pair.scatter for pair in sample.pairs])
    own_bias = _OWN_BIAS * spread(sample.differences(name)) if name in _CHANNELS else 0.0
    return np.where(scatter_N <= _UNCHANGED, STEPS[name], max(STEPS[name], own_bias))


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
    advice = f"level {level} is missing only in fakes: {ROUNDING}"
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
    if name in _CHANNELS:
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
