"""What `--codec match` itself gives away: the fake was compressed once more than its photograph.

    python tests/bench_match.py --photos coco

The fake of an `identity` autoencoder, and of one with an error (Gaussian noise of `--errors` levels),
against its photograph, by the photograph's quality. "own": the JPEGs as they are; else photographs halved
in size, so that older traces are gone, then compressed once (4:2:0). Columns: the share of values that
differ in a pair (mean, median), by how much in the mean; then how well the share of values that one more
compression changes tells real from fake: by single images (area under the ROC curve, 95 % interval), within
pairs, and by a logistic regression on the shares of three more compressions, cross-validated by photograph.
"""

import argparse
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pack.inspect.audit.judge.probe import probe
from pack.inspect.audit.judge.separation import Separation, unpaired
from pack.inspect.audit.measured.images import changed_share
from recon.folder import find_images
from recon.image.codec import Picture, decode, encode

COMPRESSIONS = 3
_LEAST = 1e-5  # of an image that a further compression leaves as it is
HEAD = "quality  error  differ  median  levels  single images             pairs  logistic"


def main() -> None:
    """Prints a line for each quality and error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--qualities", nargs="*", default=["own", "75", "85", "90", "95"])
    parser.add_argument("--errors", nargs="*", type=float, default=[0.0, 1.0, 4.0])
    parser.add_argument("--limit", type=int, default=100)
    given = parser.parse_args()
    names = find_images(given.photos)[: given.limit]
    sys.stdout.write(f"{len(names)} photographs\n{HEAD}\n")
    for quality in given.qualities:
        reals = [_photograph(given.photos / name, quality) for name in names]
        shares_NK = np.array([_shares(real) for real in reals])
        for error in given.errors:
            sys.stdout.write(f"{quality:8}{error:6.1f}{_line(reals, shares_NK, error)}\n")
            sys.stdout.flush()


def _photograph(path: Path, quality: str) -> Picture:
    if quality == "own":
        return _decoded(path.read_bytes())
    out = BytesIO()
    with Image.open(path) as photo:
        half = photo.convert("RGB").resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS)
        half.save(out, "JPEG", quality=int(quality), subsampling="4:2:0")
    return _decoded(out.getvalue())


def _line(reals: list[Picture], real_NK: NDArray[np.float64], error: float) -> str:
    rng = np.random.default_rng(0)
    fakes = [_fake(real, error, rng) for real in reals]
    fake_NK = np.array([_shares(fake) for fake in fakes])
    number_N = np.arange(len(reals))
    moved = [abs(real.pixels - fake.pixels.astype(int)) for real, fake in zip(reals, fakes, strict=True)]
    differ_N = np.array([(one > 0).mean() for one in moved])
    found = unpaired(real_NK[:, 0], fake_NK[:, 0], 0.0, number_N)
    fitted = probe([f"compression {k}" for k in range(COMPRESSIONS)], real_NK, fake_NK, number_N)
    fewer = (fake_NK[:, 0] < real_NK[:, 0]).mean()
    levels = np.mean([one.mean() for one in moved])
    figures = f"{differ_N.mean():8.1%}{np.median(differ_N):8.1%}{levels:8.3f}"
    return f"{figures}  {_shown(found):24}{fewer:7.0%}  {_shown(fitted.area if fitted else None)}"


def _fake(real: Picture, error: float, rng: np.random.Generator) -> Picture:
    noisy = np.rint(real.pixels + rng.normal(0, error, real.pixels.shape)).clip(0, 255).astype(np.uint8)
    return _decoded(encode(noisy, real, "jpeg"))


def _shares(picture: Picture) -> list[float]:
    """Logarithms of `changed_share` of the image, of the image compressed once more, and so on.

    Logarithms, because a sum of them can weigh one share against the next whatever the image shows.
    """
    shares = []
    for _ in range(COMPRESSIONS):
        shares.append(float(np.log(changed_share(picture) + _LEAST)))
        picture = _decoded(encode(picture.pixels, picture, "jpeg"))
    return shares


def _decoded(data: bytes) -> Picture:
    return decode(data, max_pixels=1 << 31)


def _shown(found: Separation | None) -> str:
    return "too few" if found is None else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


if __name__ == "__main__":
    main()
