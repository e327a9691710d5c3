"""The inverse "islow" DCT of libjpeg-turbo: from coefficients of a JPEG to samples, in integer arithmetic.

A block stays in the processor's registers from its coefficients to its samples.

    n blocks of 8x8, H x W samples of a component's rectangle
"""

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from recon.kernels.compiled import kernel, pointer
from recon.kernels.islow import inverse, levels, loaded, places, transposed
from recon.kernels.lanes import moved

Plane = NDArray[np.uint8]
Lines = NDArray[np.int32]
Coefficients = NDArray[np.int16]


def _block(_: Any, blocks: Any, number: Any, steps: Any, samples: Any, place: Any, wide: Any) -> Any:
    def code(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        blocks, number, steps, samples, place, wide = arguments
        coefficients = moved(builder, blocks, builder.mul(number, context.get_constant(types.int64, 64)))
        quantised, factors = loaded(builder, coefficients, 8), loaded(builder, steps, 8)
        lines = [line * factor for line, factor in zip(quantised, factors, strict=True)]
        turned = inverse(transposed(inverse(lines, 11)), 18)
        to = places(builder, moved(builder, samples, place), wide)
        for line, at in zip(levels(transposed(turned)), to, strict=True):
            line.store_bytes(at)
        return context.get_dummy_value()

    return types.void(blocks, number, steps, samples, place, wide), code


block: Any = intrinsic(_block)
"""In a kernel: dequantises a block and transforms it to samples.

Args: pointer to the blocks, and which of them; pointer to the steps; pointer to the samples, where among them
those of the block begin, and how far its lines are apart.
"""


@kernel("void(i2[:,::1], i4[::1], u1[:,::1])")
def inverse_dct(blocks: Coefficients, steps: Lines, plane: Plane) -> None:
    """Dequantises the blocks of one component and transforms them to samples.

    Args:
        blocks: (n, 64) quantised coefficients, in natural order; line after line of blocks.
        steps: (64,) of quantisation, in natural order.
        plane: (H, W), multiples of 8, gets the samples.
    """
    coefficients, factors, samples, width = pointer(blocks), pointer(steps), pointer(plane), plane.shape[1]
    wide = width // 8
    for number in range(blocks.shape[0]):
        place = 8 * (number // wide * width + number % wide)
        block(coefficients, number, factors, samples, place, width)
