"""Leaks as wrong packing causes them, to plant in pairs: changes of (H, W, 3) uint8 images of any size."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageEnhance

from recon.image.codec import Pixels
from recon.image.drawing import resize

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
    half = [one.resize((one.width // 2, one.height // 2), Image.Resampling.BOX) for one in chroma]
    whole = [one.resize(luma.size, Image.Resampling.BILINEAR) for one in half]
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
    height, width, _ = pixels.shape
    return resize(resize(pixels, height + 4, width + 4), height, width)


def exchanged(pixels: Pixels) -> Pixels:
    return pixels[..., ::-1]


@dataclass(frozen=True)
class Leak:
    """What happens to the halves of each pair, and the finding that must name it."""

    of_real: Change
    of_fake: Change
    name: str


LEAKS = {
    "JPEG 75, grid (3, 5), real alone": Leak(jpeg(75, down=3, across=5), same, "jpeg_photographs"),
    "JPEG 75, grid (4, 0), real alone": Leak(jpeg(75, down=4), same, "jpeg_photographs"),
    "JPEG 90 against 92": Leak(jpeg(90), jpeg(92), "jpeg_steps"),
    "JPEG 4:4:4 against 4:2:0": Leak(jpeg(90, "4:4:4"), jpeg(90), "chroma_halved"),
    "chroma halved": Leak(same, chroma_halved, "chroma_halved"),
    "last 2 lines repeated": Leak(same, border_repeated, "repeated_border"),
    "moved by half a pixel": Leak(same, half_a_pixel, "shift_across"),
    "4 pixels larger and back": Leak(same, resampled, "resampled"),
    "colours exchanged": Leak(same, exchanged, "exchanged"),
}
"""Those that show behind any decoder."""
HIDDEN_LEAKS = {
    "sharpened by .2": Leak(same, sharpened, "sharpness"),
    "saturation .97": Leak(same, paler, "saturation"),
}
"""Those that decoders cause too, and that show in accurate reconstructions."""
EQUAL = {
    "nothing": Leak(same, same, ""),
    "JPEG 90 4:2:0 in both": Leak(jpeg(90), jpeg(90), ""),
    "JPEG 75 4:2:0 in both": Leak(jpeg(75), jpeg(75), ""),
    "JPEG 80 4:4:4 in both": Leak(jpeg(80, "4:4:4", 2, 6), jpeg(80, "4:4:4", 2, 6), ""),
}
"""What is no leak, because it happens to both halves."""
