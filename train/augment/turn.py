"""The turn of windows that were cut before it: see `train.augment.geometry`."""

import torch


def turn(x_BPCHW: torch.Tensor, rotation_B: torch.Tensor, flip_B: torch.Tensor) -> torch.Tensor:
    """Rotates by quarter turns counter-clockwise, then mirrors left and right, each pair its own way.

    Args:
        x_BPCHW: any dtype, H = W.
        rotation_B: int64, 0..3.
        flip_B: bool.

    Returns:
        A new tensor of the same shape.
    """
    turned = x_BPCHW.clone()
    for quarter in range(1, 4):
        chosen = rotation_B == quarter
        turned[chosen] = torch.rot90(x_BPCHW[chosen], quarter, (-2, -1))
    turned[flip_B] = turned[flip_B].flip(-1)
    return turned
