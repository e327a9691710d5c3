"""The reference of the published recipe: one pair at a time, one op after the other, on whole images.

It defines what "exact" means: with the same drawn parameters `train.augment.pipeline` gives the same pixels,
but from a window. The code is simple and uses Pillow, scipy and numpy.

P = (real, fake), H x W of the whole image, C = RGB; all pixels are uint8.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from recon.base.errors import UserError
from recon.image.codec import Pixels, as_rgb
from recon.image.colours import EQUAL, Weights, colours_of, palette
from recon.image.modes import levels
from train.draws.boxes import cutout_box, pick, resized_box
from train.draws.config import AugmentConfig
from train.draws.noise import NORMALS, noise_keys, noise_levels
from train.draws.parameters import (
    JITTER,
    GeometryDraws,
    PhotometricDraws,
    draw_geometry,
    draw_photometric,
    visit_ids,
)
from train.order.counter import signed

_BEYOND = (  # ops that the published recipe does not have
    *("degrade", "pre_crop_p", "webp_p", "sharpen_p", "mix_p", "frequency_mix_p", "kornia"),
)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The recipe and all parameters that were drawn for one pair, in arrays of one row."""

    config: AugmentConfig
    geometry: GeometryDraws
    photometric: PhotometricDraws
    noise_key: NDArray[np.int64]
    palettes: list[tuple[Pixels, Weights]] | None = None
    """Of both images after the resized crop; None: they are those of the images that the jitter meets."""


Op = Callable[[list[Pixels], Drawn], list[Pixels]]


def oracle(
    real_HWC: Pixels,
    fake_HWC: Pixels,
    config: AugmentConfig,
    seed: int,
    epoch: int,
    pair_id: int,
    copy: int = 0,
) -> Pixels:
    """Augments one pair as the published recipe does.

    Args:
        real_HWC: (H, W, 3) uint8, the whole photograph.
        fake_HWC: its reconstruction, of the same shape.
        config: the recipe.
        seed: of the run.
        epoch: from 0.
        pair_id: of the index, or the same 64 bits as int64.
        copy: number of the visit within the epoch, from 0.

    Returns:
        (2, crop, crop, 3) uint8.

    Raises:
        UserError: the recipe has an op that the published recipe does not have, or the images are too small.
    """
    *_, (_, images) = stages(real_HWC, fake_HWC, config, seed, epoch, pair_id, copy)
    return np.stack(images)


def decode(data: bytes) -> Pixels:
    """Decodes an image file to (H, W, 3), by Pillow alone but by the rules of all readers."""
    with Image.open(BytesIO(data)) as image:
        return as_rgb(levels(image, data))


def stages(
    real_HWC: Pixels,
    fake_HWC: Pixels,
    config: AugmentConfig,
    seed: int,
    epoch: int,
    pair_id: int,
    copy: int = 0,
) -> Iterator[tuple[str, list[Pixels]]]:
    """Yields each op's name and both images after it, in the published order; arguments as in `oracle`."""
    drawn = draw(config, seed, epoch, pair_id, copy)
    images = [real_HWC, fake_HWC]
    drawn = replace(drawn, palettes=[_palette(image, drawn) for image in images])
    for name, op in OPS.items():
        images = op(images, drawn)
        yield name, images


def draw(config: AugmentConfig, seed: int, epoch: int, pair_id: int, copy: int = 0) -> Drawn:
    """Draws all parameters of one pair; arguments as in `oracle`."""
    beyond = [name for name in _BEYOND if getattr(config, name)]
    if beyond:
        raise UserError(f"augment.{beyond[0]} is no op of the published recipe; leave it out to compare")
    ids = visit_ids(np.array([signed(pair_id)], np.int64), copy)
    return Drawn(
        config=config,
        geometry=draw_geometry(config, seed, epoch, ids),
        photometric=draw_photometric(config, seed, epoch, ids),
        noise_key=noise_keys(seed, epoch, ids),
    )


def resized_crop(images: list[Pixels], drawn: Drawn) -> list[Pixels]:
    """1. A random part of the image, resized to a square."""
    if not drawn.geometry.resized[0]:
        return images
    rows, columns = images[0].shape[:2]
    ratio = drawn.config.resized_crop_ratio
    top, left, height, width = resized_box(drawn.geometry.resized_tries[0], rows, columns, ratio)
    side = int(drawn.geometry.resized_side[0])
    size, box = (side, side), (left, top, left + width, top + height)
    parts = [Image.fromarray(image).crop(box) for image in images]
    resampler = Image.Resampling[drawn.config.resized_crop_resampler.upper()]
    return [np.asarray(part.resize(size, resampler)) for part in parts]


def jitter(images: list[Pixels], drawn: Drawn) -> list[Pixels]:
    """2. Brightness, contrast, saturation and hue in the drawn order."""
    draws = drawn.photometric
    if not draws.jitter[0]:
        return images
    amounts = {name: float(getattr(draws, name)[0]) for name in JITTER}
    results = []
    palettes = drawn.palettes or [(palette(pixels), EQUAL) for pixels in images]
    for pixels, (found, weights) in zip(images, palettes, strict=True):
        image, colours = Image.fromarray(pixels), Image.fromarray(found[None])
        for number in draws.order[0]:
            name = JITTER[number]
            # The palette goes through the same ops, so that it has the image's mean grey, or nearly so.
            mean = mean_grey(np.asarray(colours), weights)
            image, colours = (ADJUST[name](one, amounts[name], mean) for one in (image, colours))
        results.append(np.asarray(image))
    return results


def _palette(image: Pixels, drawn: Drawn) -> tuple[Pixels, Weights]:
    """The palette of an image, or of the part of it that is resized."""
    if not drawn.geometry.resized[0]:
        return palette(image), EQUAL
    (height, width, _), colours = image.shape, colours_of(image)
    ratio = drawn.config.resized_crop_ratio
    box = resized_box(drawn.geometry.resized_tries[0], height, width, ratio)
    return colours.palette, colours.weights((height, width), box)


def _brightness(image: Image.Image, factor: float, _: int) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _contrast(image: Image.Image, factor: float, mean: int) -> Image.Image:
    """ImageEnhance.Contrast with one difference: the mean grey is that of the palette, not of all pixels."""
    return Image.blend(Image.new("RGB", image.size, (mean, mean, mean)), image, factor)


def _saturation(image: Image.Image, factor: float, _: int) -> Image.Image:
    return ImageEnhance.Color(image).enhance(factor)


def _hue(image: Image.Image, shift: float, _: int) -> Image.Image:
    """As `adjust_hue` of torchvision.transforms._functional_pil."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.int32(shift * 255).astype(np.uint8)  # the hue is a circle: it may overflow
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


ADJUST = {"brightness": _brightness, "contrast": _contrast, "saturation": _saturation, "hue": _hue}


def mean_grey(pixels_HWC: Pixels, weights: Weights | None = None) -> int:
    """Mean grey of an image as ImageEnhance.Contrast computes it, or with weights of its H * W pixels."""
    levels = np.asarray(Image.fromarray(pixels_HWC).convert("L")).reshape(-1)
    return int(np.average(levels, weights=weights) + 0.5)


def grey(images: list[Pixels], drawn: Drawn) -> list[Pixels]:
    """3. ITU-R 601 luma in all three channels."""
    if not drawn.photometric.grey[0]:
        return images
    return [np.asarray(Image.fromarray(image).convert("L").convert("RGB")) for image in images]


def cutout(images: list[Pixels], drawn: Drawn) -> list[Pixels]:
    """4. One grey hole."""
    if not drawn.geometry.cutout[0]:
        return images
    height, width = images[0].shape[:2]
    y1, x1, y2, x2 = cutout_box(drawn.geometry.cutout_centre[0], drawn.config.cutout_side, height, width)
    results = [image.copy() for image in images]
    for image in results:
        image[y1:y2, x1:x2] = drawn.config.cutout_fill
    return results


def noise(images: list[Pixels], drawn: Drawn) -> list[Pixels]:
    """5. Gaussian noise, the same field for both images; the sum is clipped and floored."""
    if not drawn.photometric.noise[0]:
        return images
    height, width = images[0].shape[:2]
    levels = noise_levels(drawn.noise_key, np.arange(height)[None], np.arange(width)[None])
    field = np.float32(drawn.photometric.noise_sigma[0]) * NORMALS[levels[0].transpose(1, 2, 0)]
    # astype truncates, which floors numbers that are not negative.
    return [(image + field).clip(0, 255).astype(np.uint8) for image in images]


def blur(images: list[Pixels], drawn: Drawn) -> list[Pixels]:
    """6. Gaussian blur of each 8-bit plane."""
    if not drawn.photometric.blur[0]:
        return images
    sigma = float(drawn.photometric.blur_sigma[0])

    def blurred(plane: Pixels) -> Pixels:
        result: Pixels = gaussian_filter(plane, sigma, mode="reflect", truncate=4)
        return result

    return [np.stack([blurred(image[..., c]) for c in range(3)], axis=-1) for image in images]


def jpeg(images: list[Pixels], drawn: Drawn) -> list[Pixels]:
    """7. Compression as JPEG (4:2:0), and decompression."""
    if not drawn.photometric.jpeg[0]:
        return images
    quality, results = int(drawn.photometric.jpeg_quality[0]), []
    for image in images:
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        results.append(np.asarray(Image.open(file)))
    return results


def rotation(images: list[Pixels], drawn: Drawn) -> list[Pixels]:
    """8. Quarter turns counter-clockwise."""
    return [np.rot90(image, int(drawn.geometry.rotation[0])) for image in images]


def flip(images: list[Pixels], drawn: Drawn) -> list[Pixels]:
    """9. A horizontal flip."""
    return [image[:, ::-1] if drawn.geometry.flip[0] else image for image in images]


def crop(images: list[Pixels], drawn: Drawn) -> list[Pixels]:
    """10. torchvision's RandomCrop(crop, pad_if_needed=True, padding_mode="symmetric"), or a centre crop."""
    height, width = images[0].shape[:2]
    if not drawn.config.random_crop:
        return [_centred(image, drawn.config.crop) for image in images]
    side, (u_top, u_left) = drawn.config.crop, drawn.geometry.crop[0]
    # torchvision pads each side by the whole missing length, not by half of it.
    pad_y, pad_x = max(0, side - height), max(0, side - width)
    top, left = pick(u_top, height + 2 * pad_y - side + 1), pick(u_left, width + 2 * pad_x - side + 1)
    if pad_y or pad_x:
        if not drawn.config.pad:
            raise UserError(f"augment.crop={side} exceeds {height}x{width}, and augment.pad is false")
        pads = ((pad_y, pad_y), (pad_x, pad_x), (0, 0))
        images = [np.pad(image, pads, mode="symmetric") for image in images]
    return [image[top : top + side, left : left + side] for image in images]


def _centred(image: Pixels, side: int) -> Pixels:
    """The reference's CenterCropPad: a smaller image is padded to the side first, by more at its ends."""
    height, width = image.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    pads = [(max(0, -start), max(0, side - size + start)) for start, size in ((top, height), (left, width))]
    padded = np.pad(image, (*pads, (0, 0)), mode="symmetric")
    top, left = max(0, top), max(0, left)
    return padded[top : top + side, left : left + side]


OPS: dict[str, Op] = {
    op.__name__: op for op in (resized_crop, jitter, grey, cutout, noise, blur, jpeg, rotation, flip, crop)
}
"""The published order."""
