"""Initialises a small autoencoder as an almost linear one, so that minutes of training on a CPU are enough.

At the start, the encoder computes the principal components of 8x8 blocks, and the decoder paints each
block in its mean colour. On the photographs held out from `recon/tiny`, at 256x256, this gives 21 dB, and
25.7 dB after 535 steps. From random weights, 540 steps reached 15.7 dB, and 7,206 steps (with 8 groups in
the normalisations) 20.3 dB, which is little more than the mean colours.

Three properties of the network make a linear path through it possible:

* A residual block passes its input on unchanged if its last convolution is zero.
* ``silu(x) - silu(-x) = x``: a value can be recovered from the activations of the value and its negative.
* A normalisation with one group subtracts a mean and divides by a deviation. Channels with large
  constants dominate both, so that it almost multiplies the other channels by a constant.

Legend: N blocks, D numbers in a block, K components, L latent channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.image.codec import Pixels

Floats = NDArray[np.floating[Any]]

_BLOCKS = 400  # blocks taken from each photograph
_SIDE = 8  # pixels; the downscale of the model
_DECAY = 0.7  # a component is divided by this power of its deviation; below 1, so that large ones stay larger
_LEAST_STD = 1e-2  # smallest deviation that a component is divided by; smaller ones would be amplified noise
_LATENT_CONSTANT = 3.0  # in the encoder's last channels; large compared with a latent's deviation of about 1
_COLOUR_CONSTANT = 1.5  # in the decoder's last channels; large compared with colours in -1..1
_LOG_VARIANCE = -8.0  # of the posterior at the start: samples are then close to the mean


def start_linear(model: Any, photographs: list[Pixels], rng: np.random.Generator) -> None:
    """Sets the weights of a diffusers `AutoencoderKL` with one group in its normalisations.

    Args:
        model: has 4 resolutions, the first of 16 channels or more, and no attention.
        photographs: (H, W, 3) uint8, from which the principal components are estimated.
        rng: draws the blocks.
    """
    import torch

    blocks_N8 = _draw_blocks(photographs, rng)
    with torch.no_grad():
        # Every residual block then passes its input on; the paths are set through the shortcuts.
        for module in model.modules():
            if hasattr(module, "conv2"):
                _set_zero(module.conv2)
        features_ND = _start_downsampling(model.encoder, blocks_N8)
        latents_NL = _start_latents(model, features_ND)
        _start_decoder(model.decoder, latents_NL, blocks_N8.mean((1, 2)))


def _draw_blocks(photographs: list[Pixels], rng: np.random.Generator) -> Floats:
    """Cuts `_BLOCKS` blocks at random places of each photograph: (N, 8, 8, 3) in -1..1."""
    found = []
    for photo in photographs:
        height, width = photo.shape[:2]
        tops = rng.integers(0, height - _SIDE + 1, _BLOCKS)
        lefts = rng.integers(0, width - _SIDE + 1, _BLOCKS)
        found += [photo[y : y + _SIDE, x : x + _SIDE] for y, x in zip(tops, lefts, strict=True)]
    return np.stack(found) / 127.5 - 1


def _start_downsampling(encoder: Any, blocks_N8: Floats) -> Floats:
    """Makes each halving keep the main components of 2x2 neighbours; returns the last features, (N, D)."""
    _set_identity(encoder.conv_in, 3)
    features = blocks_N8
    for level, block in enumerate(encoder.down_blocks[:-1]):
        if level:  # the first block has as many channels out as in, and so no shortcut convolution
            _set_identity(block.resnets[0].conv_shortcut, features.shape[-1])
        neighbours = _gather_2x2(features)
        basis = _main_components(neighbours, block.downsamplers[0].conv.out_channels)
        _set_downsampler(block.downsamplers[0].conv, basis)
        features = neighbours @ basis.T
    return features[:, 0, 0]


def _gather_2x2(features: Floats) -> Floats:
    """Turns (N, H, W, C) into (N, H/2, W/2, 4 C); the four neighbours are ordered by y, then x."""
    count, height, width, channels = features.shape
    split = features.reshape(count, height // 2, 2, width // 2, 2, channels)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // 2, width // 2, 4 * channels)


def _main_components(neighbours: Floats, most: int) -> Floats:
    """Returns the axes (K, D) of largest power; the identity if all numbers fit into `most`."""
    size = neighbours.shape[-1]
    if size <= most:
        return np.eye(size)
    rows_ND = neighbours.reshape(-1, size)
    axes_DD: Floats = np.linalg.eigh(rows_ND.T @ rows_ND)[1]  # in order of ascending power
    return axes_DD[:, ::-1][:, :most].T


def _set_downsampler(conv: Any, basis_KD: Floats) -> None:
    """Makes a 3x3 convolution with stride 2 compute ``basis @ neighbours``."""
    # diffusers pads it at the right and the bottom only: the first 2x2 taps see the 2x2 neighbours.
    count = len(basis_KD)
    taps = _tensor(basis_KD.reshape(count, 2, 2, -1)).movedim(-1, 1)
    conv.weight[:count] = 0
    conv.bias[:count] = 0
    conv.weight[:count, : taps.shape[1], :2, :2] = taps


def _start_latents(model: Any, features_ND: Floats) -> Floats:
    """Makes the latents' means principal components, kept as pairs (x, -x); returns the means, (N, L)."""
    encoder, count = model.encoder, model.config.latent_channels
    mean_D = features_ND.mean(0)
    variance, axes = np.linalg.eigh(np.cov((features_ND - mean_D).T))
    deviation = np.sqrt(variance[::-1][:count].clip(_LEAST_STD**2))
    matrix_LD = axes[:, ::-1][:, :count].T / deviation[:, None] ** _DECAY
    latents_NL: Floats = (features_ND - mean_D) @ matrix_LD.T

    shortcut = encoder.down_blocks[-1].resnets[0].conv_shortcut
    _set_zero(shortcut)
    _set_pairs(shortcut, matrix_LD, -matrix_LD @ mean_D)
    _set_constants(shortcut, 2 * count, _LATENT_CONSTANT)
    _set_norm(encoder.conv_norm_out, latents_NL, _LATENT_CONSTANT)
    _set_zero(encoder.conv_out)
    _join_pairs(encoder.conv_out, count)
    encoder.conv_out.bias[count:] = _LOG_VARIANCE
    _set_identity(model.quant_conv, 2 * count)
    _set_identity(model.post_quant_conv, count)
    return latents_NL


def _start_decoder(decoder: Any, latents_NL: Floats, colours_N3: Floats) -> None:
    """Makes the decoder pass the latents up unchanged and compute the mean colour from them."""
    count = latents_NL.shape[1]
    _set_identity(decoder.conv_in, count)
    for block in decoder.up_blocks[:-1]:
        for resnet in block.resnets:
            if resnet.conv_shortcut is not None:
                _set_identity(resnet.conv_shortcut, count)
        _set_identity(block.upsamplers[0].conv, count)
    inputs = np.c_[latents_NL, np.ones(len(latents_NL))]
    matrix = np.linalg.lstsq(inputs, colours_N3, rcond=None)[0].T  # (3, L + 1)

    shortcut = decoder.up_blocks[-1].resnets[0].conv_shortcut
    # Other weights stay random but small: they can learn, and hardly disturb the linear path.
    shortcut.weight *= 0.1
    _set_pairs(shortcut, matrix[:, :-1], matrix[:, -1])
    _set_constants(shortcut, 6, _COLOUR_CONSTANT)
    _set_norm(decoder.conv_norm_out, colours_N3, _COLOUR_CONSTANT)
    decoder.conv_out.weight *= 0.1
    decoder.conv_out.bias[:] = 0
    _join_pairs(decoder.conv_out, 3)


def _set_zero(conv: Any) -> None:
    conv.weight[:] = 0
    conv.bias[:] = 0


def _set_identity(conv: Any, count: int) -> None:
    """Makes a convolution pass its first `count` channels; later channels keep their random weights."""
    conv.weight[:count] = 0
    conv.bias[:count] = 0
    middle = conv.weight.shape[-1] // 2
    for channel in range(count):
        conv.weight[channel, channel, middle, middle] = 1


def _set_pairs(conv: Any, matrix_KD: Floats, offset_K: Floats) -> None:
    """Makes channels 0..K-1 of a 1x1 convolution ``matrix @ x + offset``, and K..2K-1 their negatives."""
    count, size = matrix_KD.shape
    for first, sign in ((0, 1.0), (count, -1.0)):
        rows = slice(first, first + count)
        conv.weight[rows] = 0
        conv.weight[rows, :size, 0, 0] = _tensor(sign * matrix_KD)
        conv.bias[rows] = _tensor(sign * offset_K)


def _join_pairs(conv: Any, count: int) -> None:
    """Makes a 3x3 convolution subtract the second of each pair from the first."""
    conv.weight[:, : 2 * count] = 0
    for channel in range(count):
        conv.weight[channel, channel, 1, 1] = 1
        conv.weight[channel, count + channel, 1, 1] = -1


def _set_constants(conv: Any, first: int, size: float) -> None:
    """Makes the channels from `first` on constants, alternately positive and negative: their mean is 0."""
    conv.bias[first::2] = size
    conv.bias[first + 1 :: 2] = -size


def _set_norm(norm: Any, values_NK: Floats, constant: float) -> None:
    """Makes the normalisation multiply by what it divides by, so that the pairs keep their size."""
    constants = norm.num_channels - 2 * values_NK.shape[1]
    power = 2 * (values_NK**2).mean(0).sum() + constants * constant**2
    norm.weight[:] = float(np.sqrt(power / norm.num_channels))
    norm.bias[:] = 0


def _tensor(values: Floats) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).float()
