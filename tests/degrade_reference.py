"""The degradations once more, as plain calls of Pillow, scipy and numpy on whole images.

With the draws worked out anew, number by number: what the loader gives must equal this, bit for bit.
"""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from recon.image.codec import Pixels
from train.draws.config import AugmentConfig
from train.draws.noise import NORMALS, noise_levels
from train.order.counter import stream_key, uniform, words

RESAMPLERS = ["NEAREST", "BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS"]
DEFAULTS: dict[str, dict[str, Any]] = {
    "jpeg": {"subsampling": "4:2:0"},
    "avif": {"subsampling": "4:2:0", "speed": 6},
}
ANY: dict[str, list[Any]] = {
    "resampler": [name.lower() for name in RESAMPLERS],
    "subsampling": ["4:2:0", "4:2:2", "4:4:4"],
    "display": [1.25, 1.5, 1.75, 2],
}


def reference(
    images: list[Pixels], config: AugmentConfig, seed: int, epoch: int, pair_id: int
) -> list[Pixels]:
    """Both images of a pair, degraded and pre-cropped."""
    draws = Draws(seed, epoch, pair_id)
    u, before = draws.share("degrade"), 0.0
    for number, chain in enumerate(config.degrade):
        if before <= u < before + chain["p"]:
            images = _chained(images, chain["chain"], f"degrade.{number}", config.degrade_side, draws)
        before += chain["p"]
    return _pre_cropped(images, config, draws)


class Draws:
    """The random numbers of a pair."""

    def __init__(self, seed: int, epoch: int, pair_id: int) -> None:
        self.seed, self.epoch, self.ids = seed, epoch, np.array([pair_id], np.int64)

    def share(self, name: str, draw: int = 0) -> float:
        return float(uniform(stream_key(self.seed, self.epoch, name), self.ids, draw)[0])

    def word(self, name: str) -> NDArray[np.int64]:
        return words(stream_key(self.seed, self.epoch, name), self.ids)


def _chained(images: list[Pixels], steps: Any, name: str, side: int, draws: Draws) -> list[Pixels]:
    height, width = images[0].shape[:2]
    if side and max(height, width) > side:
        top = int(draws.share(f"{name}.top") * (height - min(side, height) + 1))
        left = int(draws.share(f"{name}.left") * (width - min(side, width) + 1))
        images = [one[top : top + side, left : left + side] for one in images]
    for place, step in enumerate(steps):
        [(op, given)] = step.items()
        values = {
            word: _value(value, word, f"{name}.{place}.{word}", draws)
            for word, value in {**DEFAULTS.get(op, {}), **given}.items()
        }
        key = draws.word(f"{name}.{place}.noise.field")
        images = [PLAIN[op](one, key, **values) for one in images]
    return images


def _value(value: Any, word: str, name: str, draws: Draws) -> Any:
    if value == "any":
        return ANY[word][int(draws.word(name)[0]) % 2**64 % len(ANY[word])]
    if isinstance(value, dict):
        low, high, u = value["from"], value["to"], draws.share(name)
        whole = word in ("quality", "speed", "side")
        return low + int(u * (high - low + 1)) if whole else low + u * (high - low)
    return value


def _pre_cropped(images: list[Pixels], config: AugmentConfig, draws: Draws) -> list[Pixels]:
    if not draws.share("pre_crop") < config.pre_crop_p:
        return images
    side, (height, width) = config.pre_crop_side, images[0].shape[:2]
    y, x = max(0, side - height), max(0, side - width)
    padded = [np.pad(one, ((y, y), (x, x), (0, 0)), "symmetric") for one in images]
    top = int(draws.share("pre_crop.place", 0) * (height + 2 * y - side + 1))
    left = int(draws.share("pre_crop.place", 1) * (width + 2 * x - side + 1))
    return [one[top : top + side, left : left + side] for one in padded]


def _file(codec: str) -> Any:
    def through(pixels: Pixels, _: Any, **options: Any) -> Pixels:
        if codec == "AVIF":
            options["max_threads"] = 1
        file = BytesIO()
        Image.fromarray(pixels).save(file, codec, **options)
        return np.asarray(Image.open(file).convert("RGB"))

    return through


def _sized(pixels: Pixels, width: int, height: int, resampler: str) -> Pixels:
    size = (max(1, width), max(1, height))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling[resampler.upper()]))


def _resize(pixels: Pixels, _: Any, *, factor: float, resampler: str) -> Pixels:
    height, width = pixels.shape[:2]
    return _sized(pixels, int(width * factor + 0.5), int(height * factor + 0.5), resampler)


def _thumbnail(pixels: Pixels, _: Any, *, side: int, resampler: str) -> Pixels:
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling[resampler.upper()], reducing_gap=None)
    return np.asarray(image)


def _blur(pixels: Pixels, _: Any, *, sigma: float) -> Pixels:
    return np.stack([gaussian_filter(pixels[..., c], sigma, truncate=4) for c in range(3)], axis=-1)


def _noise(pixels: Pixels, key: Any, *, sigma: float) -> Pixels:
    height, width = pixels.shape[:2]
    levels = noise_levels(key, np.arange(height)[None], np.arange(width)[None])[0].transpose(1, 2, 0)
    field = np.float32(sigma) * NORMALS[levels]
    noisy: Pixels = (pixels + field).clip(0, 255).astype(np.uint8)
    return noisy


PLAIN: dict[str, Any] = {
    "jpeg": _file("JPEG"),
    "webp": _file("WEBP"),
    "avif": _file("AVIF"),
    "resize": _resize,
    "screenshot": lambda pixels, key, display, resampler="bilinear": _resize(
        pixels, key, factor=display, resampler=resampler
    ),
    "square": lambda pixels, _, side, resampler: _sized(pixels, side, side, resampler),
    "thumbnail": _thumbnail,
    "blur": _blur,
    "noise": _noise,
}
