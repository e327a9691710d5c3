"""What the audit finds in photographs that never were JPEG: planted leaks, none, and exchanged halves.

    python tests/bench_audit.py --photos coco --autoencoder tiny

The photographs are scaled to 45 % and cropped, so that older traces are gone, then reconstructed. For each
planted leak: the share of right decisions by the statistic that must name it (95 % interval), and all
that the audit calls a leak. Without a leak nothing may be named. At last real and fake are exchanged in half
of the pairs, drawn `--exchanges` times: then nothing tells the classes apart, and what is named is named by
chance.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from audit_data import as_png, write_dataset
from audit_leaks import EQUAL, HIDDEN_LEAKS, LEAKS, Leak, same
from PIL import Image

from pack.inspect.audit.command import Audit, AuditConfig, audit
from pack.inspect.audit.judge import nuisances
from pack.inspect.audit.measured.images import MeasuredPair, Measurements
from recon.folder import find_images
from recon.image.codec import Pixels
from recon.models.config import ReconstructionConfig
from recon.models.load import load
from recon.reconstruct import reconstruct

BOUND = 0.6  # as `AuditConfig`
_SCALE = 0.45


def main() -> None:
    """Prints a line for each planted leak, then one for the exchanges."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--photos", type=Path, required=True, help="folder of photographs; its last are taken"
    )
    parser.add_argument("--autoencoder", default="tiny")
    parser.add_argument("--limit", type=int, default=106)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--exchanges", type=int, default=20)
    given = parser.parse_args()
    reals = list(islice(crops(given.photos, given.side), given.limit))
    config = ReconstructionConfig(autoencoder=given.autoencoder, device="cpu")
    fakes = reconstruct(load(config), reals, [str(number) for number in range(len(reals))], 4)
    sys.stdout.write(f"{len(reals)} photographs, {given.autoencoder}\n")
    show(reals, fakes, given.exchanges)


def show(reals: Sequence[Pixels], fakes: Sequence[Pixels], exchanges: int) -> None:
    """Prints the table."""
    for what, leak in {**EQUAL, **LEAKS, **HIDDEN_LEAKS}.items():
        sys.stdout.write(f"{what:34}{line(audited(reals, fakes, leak), leak.name)}\n")
        sys.stdout.flush()
    named = Counter(chance(reals, fakes, exchanges))
    sys.stdout.write(f"{f'exchanged {exchanges} times':34}{dict(named) or 'nothing'}\n")


def crops(folder: Path, side: int) -> Iterator[Pixels]:
    """Yields the upper left (side, side, 3) of each photograph that is large enough, scaled down."""
    for name in reversed(find_images(folder)):
        with Image.open(folder / name) as photo:
            size = int(photo.width * _SCALE), int(photo.height * _SCALE)
            small = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        if min(small.size) >= side:
            yield np.asarray(small)[:side, :side]


def audited(reals: Sequence[Pixels], fakes: Sequence[Pixels], leak: Leak) -> Audit:
    """The audit of a dataset of such pairs."""
    files = [
        (str(number), as_png(leak.of_real(real)), as_png(leak.of_fake(fake)))
        for number, (real, fake) in enumerate(zip(reals, fakes, strict=True))
    ]
    with TemporaryDirectory() as folder:
        url = write_dataset(Path(folder) / "set", files, shard_pairs=len(files))
        return audit(AuditConfig(urls=[url], bound=BOUND))


def line(found: Audit, name: str) -> str:
    """The separation by the named finding, and the names of all leaks."""
    one = next((one.separation for one in found.findings if one.name == name), None)
    figure = f"{name} {one.value:.2f} ({one.low:.2f} to {one.high:.2f})" if one else "-"
    return f"{figure:40}leaks: {' '.join(leak.name for leak in found.leaks) or 'none'}"


def chance(reals: Sequence[Pixels], fakes: Sequence[Pixels], exchanges: int) -> Iterator[str]:
    """Yields the name of each leak in pairs whose halves are exchanged by chance."""
    forth, back = (
        audited(one, other, Leak(same, same, "")).sample.pairs
        for one, other in ((reals, fakes), (fakes, reals))
    )
    number_N = np.arange(len(forth))
    for seed in range(exchanges):
        turned_N = np.random.default_rng(seed).random(len(forth)) < 0.5
        pairs = [two if turned else one for one, two, turned in zip(forth, back, turned_N, strict=True)]
        yield from (one.name for one in judged(pairs, number_N) if one.verdict == "LEAK")


def judged(pairs: list[MeasuredPair], number_N: np.ndarray) -> list[nuisances.Finding]:
    """The findings on the statistics of measured pairs."""
    sample = Measurements(pairs=pairs)
    return [
        *nuisances.judge_numbers(sample, number_N, BOUND),
        nuisances.judge_levels(sample, number_N, BOUND),
        nuisances.judge_photographs(sample, number_N, BOUND),
        nuisances.judge_beats(sample, number_N, BOUND),
    ]


if __name__ == "__main__":
    main()
