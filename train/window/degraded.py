"""The images of a pair before a window is planned: degraded as a whole, and cut to the pre-crop.

The real image, the fake and the mask lie on each other before and after. With these images everything else
goes on as if they had been stored so.
"""

from collections.abc import Sequence

import numpy as np

from recon.image.codec import Pixels
from train.chains.chain import MOST_SIDE
from train.degrade.ops import Seen, apply, apply_to_mask
from train.draws.boxes import pick, square_start
from train.draws.config import AugmentConfig
from train.draws.degrade import NONE, draw_chain, drawn_chains
from train.draws.parameters import GeometryDraws
from train.window.geometry import cut_out
from train.window.images import Decoded, Source

Images = Sequence[Source]
"""Real, fake and, where there is one, the mask."""


def degraded(
    images: Images, config: AugmentConfig, seed: int, epoch: int, pair_id: int, view: int = 1
) -> Images:
    """The images after the chain that the pair drew; the images themselves where it drew none.

    Args:
        images: see `Images`.
        config: the recipe.
        seed: of the run.
        epoch: from 0.
        pair_id: of this visit, from `train.draws.parameters.visit_ids`.
        view: of the pair, from 1.
    """
    chains = config.chains
    if not chains:
        return images
    number = int(drawn_chains(chains, view, seed, epoch, np.array([pair_id], np.int64))[0])
    if number == NONE:
        return images
    chain = draw_chain(chains, number, seed, epoch, pair_id)
    parts = _parts(images, chains[number].region(config.degrade_side), chain.place)
    for step in chain.steps:
        seen = Seen(noise_key=step.noise_key, max_pixels=MOST_SIDE**2)
        pair = [apply(step.op, one, step.values, seen) for one in parts[:2]]
        parts = [*pair, *(apply_to_mask(step.op, one, step.values, seen) for one in parts[2:])]
    return list(map(Decoded, parts))


def _parts(images: Images, side: int, place: tuple[float, float]) -> list[Pixels]:
    """A part of the images with sides of at most `side` pixels."""
    size = images[0].size
    height, width = (min(side, one) for one in size)
    top, left = (pick(u, whole - min(side, whole) + 1) for u, whole in zip(place, size, strict=True))
    return [np.ascontiguousarray(one.part((top, left, height, width))) for one in images]


def pre_cropped(images: Images, draws: GeometryDraws, row: int, config: AugmentConfig) -> Images:
    """The images cut to a square at a drawn place, where the pair drew that.

    Smaller images are mirrored at their borders, see `square_start`.

    Args:
        images: see `Images`.
        draws: of several pairs.
        row: which of the draws are this pair's.
        config: the recipe.
    """
    if not draws.pre_crop[row]:
        return images
    side = config.pre_crop_side
    top, left = (
        square_start(u, whole, side)
        for u, whole in zip(draws.pre_crop_place[row].tolist(), images[0].size, strict=True)
    )
    return [Decoded(cut_out(one, (top, left, side, side))) for one in images]
