"""`pack.audit` sees what a detector sees beside the decoder's trace: 24 pairs of 96 pixels show each leak."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from audit_data import SIDE, as_png, photographs, write_dataset
from PIL import Image, ImageEnhance

from pack.inspect.audit.command import Audit, AuditConfig, audit
from pack.inspect.audit.separation import smallest_share
from recon.image.codec import Pixels
from recon.image.drawing import resize
from recon.models.config import ReconstructionConfig
from recon.models.load import load
from recon.reconstruct import reconstruct

Change = Callable[[Pixels], Pixels]


def same(pixels: Pixels) -> Pixels:
    return pixels


def jpeg(quality: int, subsampling: str = "4:2:0", down: int = 0, across: int = 0) -> Change:
    """JPEG whose grid starts so many pixels before the image, decoded."""

    def change(pixels: Pixels) -> Pixels:
        wider = np.pad(pixels, ((down, 0), (across, 0), (0, 0)), "reflect")
        out = BytesIO()
        Image.fromarray(wider).save(out, "JPEG", quality=quality, subsampling=subsampling)
        with Image.open(out) as image:
            return np.asarray(image)[down:, across:]

    return change


def chroma_halved(pixels: Pixels) -> Pixels:
    luma, *chroma = Image.fromarray(pixels).convert("YCbCr").split()
    half = [one.resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX) for one in chroma]
    whole = [one.resize((SIDE, SIDE), Image.Resampling.BILINEAR) for one in half]
    return np.asarray(Image.merge("YCbCr", (luma, *whole)).convert("RGB"))


def sharpened(pixels: Pixels) -> Pixels:
    return np.asarray(ImageEnhance.Sharpness(Image.fromarray(pixels)).enhance(1.2))


def paler(pixels: Pixels) -> Pixels:
    return np.asarray(ImageEnhance.Color(Image.fromarray(pixels)).enhance(0.97))


def border_repeated(pixels: Pixels) -> Pixels:
    return np.pad(pixels[:-2, :-2], ((0, 2), (0, 2), (0, 0)), "edge")


def half_a_pixel(pixels: Pixels) -> Pixels:
    wider = np.pad(pixels, ((0, 0), (1, 0), (0, 0)), "edge").astype(np.uint16)
    return ((wider[:, 1:] + wider[:, :-1] + 1) // 2).astype(np.uint8)


def resampled(pixels: Pixels) -> Pixels:
    return resize(resize(pixels, SIDE + 4, SIDE + 4), SIDE, SIDE)


@pytest.fixture(scope="module")
def tiny() -> list[Pixels]:
    """The photographs' reconstructions by the embedded autoencoder."""
    images = photographs()
    autoencoder = load(ReconstructionConfig(autoencoder="tiny", device="cpu", threads=1))
    return reconstruct(autoencoder, images, [f"{number}" for number in range(len(images))], 8)


def audited(folder: Path, reals: list[Pixels], fakes: list[Pixels]) -> Audit:
    lines = [
        (f"{number}", as_png(real), as_png(fake))
        for number, (real, fake) in enumerate(zip(reals, fakes, strict=True))
    ]
    return audit(AuditConfig(urls=[write_dataset(folder / "set", lines)], threads=1))


def leaks(folder: Path, reals: list[Pixels], fakes: list[Pixels]) -> set[str]:
    return {one.name for one in audited(folder, reals, fakes).leaks}


@pytest.mark.parametrize(
    ("of_real", "of_fake", "name"),
    [
        (jpeg(75, down=3, across=5), same, "jpeg_photographs"),
        (jpeg(75, down=4), same, "jpeg_photographs"),
        (jpeg(90), jpeg(92), "jpeg_steps"),
        (jpeg(90, "4:4:4"), jpeg(90), "chroma_halved"),
        (same, chroma_halved, "chroma_halved"),
        (same, border_repeated, "repeated_border"),
        (same, half_a_pixel, "shift_across"),
        (same, resampled, "resampled"),
        (same, lambda pixels: pixels[..., ::-1], "exchanged"),
    ],
)
def test_leak_is_found_behind_a_decoder(
    tmp_path: Path, tiny: list[Pixels], of_real: Change, of_fake: Change, name: str
) -> None:
    assert name in leaks(tmp_path, [of_real(one) for one in photographs()], [of_fake(one) for one in tiny])


@pytest.mark.parametrize(("change", "name"), [(sharpened, "sharpness"), (paler, "saturation")])
def test_leak_that_decoders_cause_too_is_found_without_one(tmp_path: Path, change: Change, name: str) -> None:
    """Sharpening, and colours weaker by 3 %: a decoder's own changes of both are larger."""
    found = leaks(tmp_path, photographs(), [change(one) for one in photographs()])
    assert name in found
    assert not found & {"low_end", "high_end"}


def test_old_jpeg_of_the_photographs_says_what_to_do(tmp_path: Path, tiny: list[Pixels]) -> None:
    found = audited(tmp_path, [jpeg(75, down=3, across=5)(one) for one in photographs()], tiny)
    leak = next(one for one in found.leaks if one.name == "jpeg_photographs")
    assert (leak.real, leak.fake) == ("100% were", "0% were")
    assert leak.advice.startswith("your photographs were JPEG once, your fakes were not")
    assert "--codec both" in leak.advice


def test_exchange_of_real_and_fake_is_silent(tmp_path: Path, tiny: list[Pixels]) -> None:
    pairs = [
        pair[:: -1 if number % 2 else 1] for number, pair in enumerate(zip(photographs(), tiny, strict=True))
    ]
    assert leaks(tmp_path, [one for one, _ in pairs], [other for _, other in pairs]) == set()


def test_old_jpeg_in_both_halves_alike_is_silent(tmp_path: Path, tiny: list[Pixels]) -> None:
    coded = jpeg(80, "4:4:4", down=2, across=6)
    found = leaks(tmp_path, [coded(one) for one in photographs()], [coded(one) for one in tiny])
    assert found & {"jpeg_photographs", "jpeg_steps", "chroma_halved", "resampled"} == set()


def test_power_says_how_large_a_leak_must_be(tmp_path: Path, tiny: list[Pixels]) -> None:
    found = audited(tmp_path, photographs(), tiny)
    assert found.leaks == []
    power = next(one for one in found.findings if one.name == "power")
    share = smallest_share(24, 0.6)
    assert share is not None
    assert power.real == f"leaks in {share:.0%} of the pairs show"


@pytest.mark.parametrize(("photographs", "at_most"), [(8, 1.0), (24, 0.7), (106, 0.4), (2000, 0.25)])
def test_more_photographs_show_smaller_leaks(photographs: int, at_most: float) -> None:
    share = smallest_share(photographs, 0.6)
    assert share is not None
    assert 0.2 < share <= at_most


def test_fewer_than_eight_photographs_show_nothing() -> None:
    assert smallest_share(7, 0.6) is None
