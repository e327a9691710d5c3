"""The noise of one pair: words of `train.order.counter`, field of `train.draws.noise` and sum in one loop."""

import numpy as np
from numpy.typing import NDArray

from recon.image.codec import Pixels
from recon.kernels.compiled import kernel, part

_u = np.uint64
_STEP = np.uint64(0x9E3779B97F4A7C15)  # from `train.order.counter`, as are the two factors below


@part
def _words(out_W: NDArray[np.uint64], row: np.uint64, left: int) -> None:
    for x in range(out_W.size):
        word = row + _u(left + x + 1) * _STEP
        word = (word ^ (word >> _u(30))) * _u(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> _u(27))) * _u(0x94D049BB133111EB)
        out_W[x] = word ^ (word >> _u(31))


@part
def _add(x_W: Pixels, field_W: NDArray[np.float32]) -> None:
    for i in range(x_W.size):
        level = np.float32(x_W[i]) + field_W[i]
        x_W[i] = np.uint8(min(max(level, np.float32(0)), np.float32(255)))


@kernel("void(u1[:,:,:,::1], i8, i8, i8, f4, f4[::1])")
def add_noise(
    x_PCHW: Pixels, key: int, top: int, left: int, sigma: np.float32, normals: NDArray[np.float32]
) -> None:
    """Adds the noise field of a key to all images, in place.

    Args:
        x_PCHW: the windows.
        key: an entry of `train.draws.noise.noise_keys`.
        top: row of the windows in the augmented image.
        left: column of the windows in the augmented image.
        sigma: standard deviation in levels.
        normals: `train.draws.noise.NORMALS`.
    """
    height, width = x_PCHW.shape[2:]
    words_W, field_W = np.empty(width, np.uint64), np.empty(width, np.float32)
    for y in range(height):
        # Rows are 2**24 steps apart, as in `train.order.counter`, so no two pixels share a word.
        _words(words_W, _u(key) + _u(top + y) * (_STEP << _u(24)), left)
        for channel in range(3):
            down = _u(48 - 16 * channel)
            for x in range(width):
                field_W[x] = normals[np.int64((words_W[x] >> down) & _u(0xFFFF))] * sigma
            # Real and fake get the same field, which is computed only once.
            for image in range(x_PCHW.shape[0]):
                _add(x_PCHW[image, channel, y], field_W)
