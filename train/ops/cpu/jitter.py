"""`train.ops.jitter` in single precision, pixel by pixel; that file names the sources."""

import numpy as np
from numpy.typing import NDArray

from recon.image.codec import Pixels
from recon.kernels.compiled import kernel, part

_PART = 2048  # pixels that go through all ops together, so that they stay in the L1 cache

_f = np.float32  # with Python's own numbers numba would compute in float64 and int64
_i = np.int32
_STEP = np.float32(2 / (85 * 255))


@part
def _level(x: np.float32) -> np.uint8:
    return np.uint8(min(max(x, _f(0)), _f(255)))


@part
def _blend(x_N: Pixels, low: np.float32, factor: np.float32) -> None:
    for i in range(x_N.size):
        x_N[i] = _level((_f(x_N[i]) - low) * factor + low)


@part
def _luma(r: np.uint8, g: np.uint8, b: np.uint8) -> np.uint8:
    return np.uint8(_i(_i(19595) * _i(r) + _i(38470) * _i(g) + _i(7471) * _i(b) + _i(32768)) >> _i(16))


@part
def _saturation(r: Pixels, g: Pixels, b: Pixels, factor: np.float32) -> None:
    for i in range(r.size):
        low = _f(_luma(r[i], g[i], b[i]))
        r[i] = _level((_f(r[i]) - low) * factor + low)
        g[i] = _level((_f(g[i]) - low) * factor + low)
        b[i] = _level((_f(b[i]) - low) * factor + low)


@part
def _hue_of(
    red: np.float32, green: np.float32, blue: np.float32, value: np.float32, least: np.float32
) -> np.int32:
    """The 8-bit hue; computed in single precision, it equals Pillow's for each of the 2**24 colours.

    It is an odd number of sixths of the circle, plus or minus a ratio.
    """
    sixths, sign = _f(3 if red <= green else 5), _f(1 if red <= green else -1)
    if green == value:
        sixths, sign = _f(1 if blue <= red else 3), _f(1 if blue <= red else -1)
    if red == value:
        sixths, sign = _f(-1 if green < blue else 1), _f(1 if green < blue else -1)
    middle = red + green + blue - value - least
    turn = (sixths + sign * ((value - middle) / max(value - least, _f(1)))) / _f(6)
    hue = _i((turn + _f(1) if turn < 0 else turn) * _f(255))
    return hue if value > least else _i(0)


@part
def _channel(value: np.float32, taken: np.float32, distance: np.float32, offset: np.float32) -> np.uint8:
    share = min(max(abs(distance), _f(42.5)), _f(85)) - offset
    return np.uint8(value - np.floor(abs(share) * taken + _f(0.5)))


@part
def _hue(r: Pixels, g: Pixels, b: Pixels, turn: np.int32) -> None:
    for i in range(r.size):
        red, green, blue = _f(r[i]), _f(g[i]), _f(b[i])
        value, least = max(max(red, green), blue), min(min(red, green), blue)
        turned = _f((_hue_of(red, green, blue, value, least) + turn) & _i(255))
        saturation = np.floor((value - least) / max(value, _f(1)) * _f(255))
        taken = value * saturation * _STEP
        r[i] = _channel(value, taken, turned - _f(127.5), _f(85))
        g[i] = _channel(value, taken, turned - _f(85), _f(42.5))
        b[i] = _channel(value, taken, turned - _f(170), _f(42.5))


@kernel("void(u1[:,:,::1], i8[::1], f8[::1], i8)")
def jitter_image(x_CHW: Pixels, order: NDArray[np.int64], amounts: NDArray[np.float64], mean: int) -> None:
    """Jitters an image in place.

    Args:
        x_CHW: the whole image.
        order: indices of `train.draws.parameters.JITTER`.
        amounts: in the order of `JITTER`.
        mean: grey level for contrast.
    """
    turn = _i(int(amounts[3] * 255) & 255)
    factor = amounts.astype(np.float32)
    x_CN = x_CHW.reshape(3, -1)
    for first in range(0, x_CN.shape[1], _PART):
        r, g, b = (
            x_CN[0, first : first + _PART],
            x_CN[1, first : first + _PART],
            x_CN[2, first : first + _PART],
        )
        for op in order:  # saturation and hue need all channels of a pixel, the others one
            if op == 2:
                _saturation(r, g, b, factor[2])
            elif op == 3:
                _hue(r, g, b, turn)
            else:
                low = _f(mean) if op == 1 else _f(0)  # brightness is blending with black
                _blend(r, low, factor[op])
                _blend(g, low, factor[op])
                _blend(b, low, factor[op])


@kernel("void(u1[:,:,::1])")
def grey_image(x_CHW: Pixels) -> None:
    """Makes an image grey, in place."""
    x_CN = x_CHW.reshape(3, -1)
    r, g, b = x_CN[0], x_CN[1], x_CN[2]
    for i in range(r.size):
        r[i] = _luma(r[i], g[i], b[i])
        g[i] = r[i]
        b[i] = r[i]
