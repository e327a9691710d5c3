"""A resized crop of an image, of which no more is computed than somebody asks for."""

from dataclasses import dataclass

import numpy as np

from recon.image.codec import Pixels
from recon.image.drawing import columns_first, resize
from train.draws.boxes import Box
from train.window.images import Palette, Source


@dataclass(frozen=True)
class Resized:
    """A part of an image, resampled by Pillow or with the same result."""

    image: Source
    box: Box
    """(top, left, height, width) of the part."""
    size: tuple[int, int]
    """Height and width in pixels, after resampling."""
    resampler: str
    """Of `recon.image.drawing.RESAMPLERS`."""

    def part(self, box: Box) -> Pixels:
        """The pixels of (top, left, height, width), which is not empty and lies inside."""
        if self.image.is_partial and self.resampler == "bilinear":
            return self._part_alone(box)
        top, left, height, width = box
        whole = resize(self.image.part(self.box), *self.size, self.resampler)
        return whole[top : top + height, left : left + width]

    def _part_alone(self, box: Box) -> Pixels:
        from recon.kernels.resample import (  # imports numba, as the decoder of parts does
            resized_part,
            source_of,
        )

        top, left, size = *self.box[:2], self.box[2:]
        y, x, height, width = source_of(size, self.size, box)
        source = np.ascontiguousarray(self.image.part((top + y, left + x, height, width)))
        first = columns_first(size, self.size)
        return resized_part(source, (y, x), size, self.size, box, columns_first=first)

    def palette(self) -> Palette:
        """The colours of the part before resampling, by the map of the image."""
        colours = self.image.colours()
        return colours.palette, colours.weights(self.image.size, self.box)
