"""Looks for shortcuts: anything, apart from the decoder's trace, by which a detector could tell the classes.

    python -m pack.audit data/mine/train data/mine/val

Several datasets count as the splits of one dataset; the audit looks for photographs that are in two of
them. It prints a table, and writes audit.json and audit.png (histograms by class) to --out. Exit status 1
if a nuisance separates the classes better than --bound, and not only by chance in this sample, or if the
photographs of --used_on look more like fakes than the dataset's own; otherwise 0.
`pack.inspect.audit.judge.judged` says what is judged, what is only shown, and why.
"""

import os
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from recon.base.cli import run
from recon.base.cpus import available_cpus
from recon.base.errors import UserError
from recon.base.options import at_least_one
from recon.base.paths import safe_name
from recon.base.progress import counted, progress
from recon.place.alone import refuse_ranks

if TYPE_CHECKING:
    from pack.base.items import File
    from pack.dataset.dataset import Dataset
    from pack.inspect.audit.judge.nuisances import Finding
    from pack.inspect.audit.judge.probe import Probe
    from pack.inspect.audit.measured.images import Measurements
    from pack.inspect.audit.networks.pairs import Halves, Windows

_PROG = "python -m pack.audit"


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Which datasets to audit, and how closely."""

    urls: list[str] = field(kw_only=False)
    """Directories or URLs of one or more datasets; several are the splits of one dataset."""
    pairs: int = 2000
    """Pairs to measure, spread evenly over all datasets; 4 KB of memory each. Where a sample has several
    reconstructions, so many samples: each reconstruction makes a pair with the real image."""
    bound: float = 0.6
    """Share of right decisions, .5 (chance) to 1, that a nuisance alone may reach without being a leak."""
    probe: Literal["numbers", "net"] = "numbers"
    """What tries to tell the classes apart. numbers: a regression on the statistics. net: a small network,
    too, trained for minutes on up to 400 pairs whose halves differ in their coding alone."""
    used_on: str | None = None
    """Folder or URL of photographs like those that the detector will be used on. Small networks, trained for
    minutes on up to 400 pairs, say whether it will call them fake more often than the dataset's own."""
    out: str | None = None
    """Directory or URL for audit.json and audit.png; by default audit-NAME, with the dataset's name."""
    threads: int = 0
    """Number of threads that decode and measure; 0 means one per core."""
    card: bool = False
    """Write the findings into the card of each dataset too, its README.md."""

    def __post_init__(self) -> None:
        at_least_one(self, "pairs")
        if not 0.5 <= self.bound < 1:
            raise UserError(f"bound={self.bound}, expected 0.5 <= bound < 1")
        if self.threads < 0:
            raise UserError(f"threads={self.threads}, expected 0 (all cores) or more")
        if not all(self.urls) or not self.urls:
            raise UserError("no dataset given; expected python -m pack.audit URL [URL ...]")
        if self.used_on == "":
            raise UserError("used_on is empty, expected a folder or URL of photographs")
        if len({url if "://" in url else os.path.normpath(url) for url in self.urls}) < len(self.urls):
            raise UserError("a dataset is given twice; expected each split once")


def main() -> None:
    """The command."""
    run(AuditConfig, _job, prog=_PROG, about=__doc__ or "")


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found."""

    sample: "Measurements"
    findings: "list[Finding]"
    probe: "Probe | None"
    photographs: int
    """Number of different photographs that were measured."""

    @property
    def leaks(self) -> "list[Finding]":
        """The findings that fail the audit."""
        return [one for one in self.findings if one.verdict == "LEAK"]

    @property
    def unlike(self) -> bool:
        """Whether the photographs of ``--used_on`` look more like fakes than the dataset's own."""
        return any(one.verdict == "UNLIKE" for one in self.findings)


def audit(config: AuditConfig) -> Audit:
    """Measures a sample of the datasets and judges it.

    Raises:
        UserError: a dataset can't be read, no pair can be measured, or --used_on holds no images.
    """
    from pack.dataset.dataset import open_dataset
    from pack.inspect.audit.judge import nuisances
    from pack.inspect.audit.judge.separation import photographs

    datasets, elsewhere = [open_dataset(url) for url in config.urls], _elsewhere(config)
    sample = _measure(config, datasets)
    names = [pair.photograph for pair in sample.pairs]
    photograph_N = photographs(names, [pair.real.pixels for pair in sample.pairs])
    found = _probe(sample, photograph_N)
    findings = [
        *nuisances.judge_facts(sample, config.bound),
        *nuisances.judge_numbers(sample, photograph_N, config.bound),
        nuisances.judge_levels(sample, photograph_N, config.bound),
        nuisances.judge_photographs(sample, photograph_N, config.bound),
        nuisances.judge_beats(sample, photograph_N, config.bound),
        nuisances.judge_probe(found, config.bound),
        *_nets(config, datasets, elsewhere),
        *_counts(datasets, sample),
        nuisances.show_power(photograph_N, config.bound),
        *nuisances.show_numbers(sample, photograph_N),
    ]
    return Audit(sample=sample, findings=findings, probe=found, photographs=len(set(photograph_N.tolist())))


def _measure(config: AuditConfig, datasets: "list[Dataset]") -> "Measurements":
    from pack.inspect.audit.measured.images import Measurements, measure_all

    total = min(config.pairs, sum(dataset.manifest.pairs for dataset in datasets))
    threads, sample = config.threads or available_cpus(), Measurements()
    for _ in progress(
        measure_all(sample, datasets, config.pairs, threads), total=total, unit="pairs", what="audit"
    ):
        pass
    if not sample.pairs:
        where, cause = ", ".join(config.urls), sample.broken[0]
        raise UserError(f"{where}: no pair can be measured ({cause}); run python -m pack.verify")
    return sample


def _probe(sample: "Measurements", photograph_N: Any) -> "Probe | None":
    import numpy as np

    from pack.inspect.audit.judge.nuisances import probe_inputs
    from pack.inspect.audit.judge.probe import probe

    inputs = probe_inputs(sample)
    real_NF, fake_NF = (np.stack([both[which] for both in inputs.values()], axis=1) for which in (0, 1))
    return probe(list(inputs), real_NF, fake_NF, photograph_N)


def _elsewhere(config: AuditConfig) -> "list[File]":
    """The photographs of ``--used_on``."""
    if config.used_on is None:
        return []
    from pack.inspect.audit.networks.used_on import find

    return find(config.used_on)


def _nets(config: AuditConfig, datasets: "list[Dataset]", elsewhere: "list[File]") -> "list[Finding]":
    """The findings of the networks that are asked for."""
    if config.probe != "net" and config.used_on is None:
        return []
    from pack.inspect.audit.networks import coding, control, network, pairs, used_on
    from recon.base.device import prepare_cpu

    prepare_cpu(config.threads or available_cpus())
    found = []
    if config.probe == "net":
        controls = _windows(config, datasets, control.control)
        found += [coding.judge_net(controls, config.bound, steps=network.STEPS)]
    if config.used_on is not None:
        others = pairs.Windows()
        reading = used_on.read_elsewhere(others, elsewhere, used_on.quality_of(datasets[0]))
        for _ in progress(reading, total=len(elsewhere), unit="photographs", what=config.used_on):
            pass
        stored = _windows(config, datasets, pairs.stored)
        judged = used_on.judge_elsewhere(stored, others, config.used_on, config.bound, steps=used_on.STEPS)
        found += [judged]
    return found


def _windows(config: AuditConfig, datasets: "list[Dataset]", halves: "Halves") -> "Windows":
    """Windows of a sample of the pairs."""
    from pack.inspect.audit.networks.network import PAIRS
    from pack.inspect.audit.networks.pairs import Windows, read_pairs

    fakes = max(one.manifest.fakes for one in datasets)
    samples = min(config.pairs, sum(one.manifest.pairs for one in datasets))
    found, total = Windows(), min(-(-PAIRS // fakes), samples)
    reading = read_pairs(found, datasets, total, halves)
    for _ in progress(reading, total=total, unit="pairs", what="pairs for networks"):
        pass
    return found


def _counts(datasets: "list[Dataset]", sample: "Measurements") -> "list[Finding]":
    """The findings on missing partners and on duplicates."""
    from pack.inspect.audit.judge.nuisances import count_finding, shown
    from pack.inspect.audit.partners import lonely, repeats, twins

    lines = [*sample.broken, *(line for dataset in datasets for line in lonely(dataset))]
    partners = count_finding("missing partners", list(dict.fromkeys(lines)), "restore or repack these")
    if len(datasets) < 2:
        across = shown("duplicates across splits", "give all splits to compare")
    else:
        advice = "a photograph is in two splits; remove it from one of them"
        across = count_finding("duplicates across splits", twins(datasets, sample.pairs), advice)
    within = shown("duplicates in a split", str(repeats(sample.pairs)))
    equal = sum(pair.real.pixels == pair.fake.pixels for pair in sample.pairs) / len(sample.pairs)
    # Shown, not judged: the identity gives equal pixels on purpose.
    return [partners, across, within, shown("pairs of equal pixels", f"{equal:.0%}")]


def _job(config: AuditConfig) -> int:
    refuse_ranks(os.environ, _PROG)
    from pack.base.writable import check_writable
    from pack.card.card import CARD
    from pack.card.update import add_findings, cards
    from pack.dataset.dataset import open_dataset
    from pack.inspect.audit import report
    from pack.storage import open_store

    # The outputs are tried first: a wrong --out shows before the audit, which may take minutes.
    manifests = {url: open_dataset(url).manifest for url in config.urls}
    store = open_store(config.out or f"audit-{safe_name(manifests[config.urls[0]].name)}")
    places = [place for one in manifests.items() for place in cards(*one)] if config.card else []
    check_writable(f"{store.url}/audit.json", *(f"{place.url}/{CARD}" for place in places))
    found = audit(config)
    about = _about(config, found)
    sys.stdout.write(f"{report.table(found.findings)}\n{_verdict(found)}\n")
    sys.stdout.flush()  # the table is out even if writing the files fails
    with store.publish("audit.json") as file:
        # Of a path that is not UTF-8, backslashes make what JSON, too, takes for such a character.
        file.write(report.as_json(about, found.findings).encode("utf-8", "backslashreplace"))
    with store.publish("audit.png") as file:
        file.write(report.draw(found.sample))
    sys.stdout.write(f"figures and plots: {store.url}/audit.json, audit.png\n")
    which = ", ".join(one.split or one.name for one in manifests.values())
    for place in {place.url: place for place in places}.values():
        add_findings(place, f"Of {which}: {_verdict(found)}.\n\n```\n{report.table(found.findings)}```")
    return 1 if found.leaks or found.unlike else 0


def _verdict(found: Audit) -> str:
    leaks = counted(len(found.leaks), "leak")
    sample = f"{counted(len(found.sample.pairs), 'pair')} of {counted(found.photographs, 'photograph')}"
    causes = {"too few": "too few photographs", "too small": "all images are smaller than 64 pixels"}
    unjudged = {
        cause: sum(one.verdict == verdict for one in found.findings) for verdict, cause in causes.items()
    }
    rest = [
        f"; {counted(count, 'nuisance')} NOT JUDGED: {cause}" for cause, count in unjudged.items() if count
    ]
    unlike = "; photographs of --used_on are UNLIKE those of the dataset" if found.unlike else ""
    return f"{leaks} in {sample}{unlike}{''.join(rest)}"


def _about(config: AuditConfig, found: Audit) -> dict[str, Any]:
    return {
        "urls": config.urls,
        "bound": config.bound,
        "used_on": config.used_on,
        "pairs": len(found.sample.pairs),
        "photographs": found.photographs,
        "leaks": [one.name for one in found.leaks],
        "probe": asdict(found.probe) if found.probe else None,
    }
