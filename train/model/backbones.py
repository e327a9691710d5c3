"""The networks of the detectors, by name."""

import difflib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.base.errors import UserError
from train.model.normalize import Normalization
from train.model.weights import one_line

DROPOUT = 0.5
"""Dropout rate before the classifier of the ResNets."""

HIGHPASS_DROPOUT = 0.3
"""Dropout rate between the layers of ``highpass``."""

TIMM = "timm:"
"""Prefix of the name of a timm model; its state-dict names begin with ``timm.``."""


class HighPass(nn.Module):
    """Third-order differences along rows and columns, limited to a few grey levels by a tanh.

    A decoder leaves its trace in the finest detail. These differences remove most of the content and the
    brightness. Edges are much stronger than the trace, so the tanh saturates there. Similar to the residuals
    of Cozzolino et al. 2014 and the ``residue3`` front end of grip-unina's detectors, which have a quantiser
    in place of the tanh.

    Args:
        std: the divisor of `train.model.normalize.normalize`, on the scale 0..1.
    """

    CHANNELS = 6
    """Two residuals for each colour channel."""
    SCALE = 4.0
    """A residual of this many grey levels becomes tanh(1)."""

    def __init__(self, std: tuple[float, ...]) -> None:
        """Makes the fixed factors, which are neither trained nor saved."""
        super().__init__()
        # The factor undoes `normalize`, so that the residuals are in grey levels. Its mean cancels in them.
        scale = 255.0 / (3.0 * self.SCALE) * torch.tensor(std).repeat(2).view(self.CHANNELS, 1, 1)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Maps normalised images (B, 3, H, W) to residuals (B, 6, H, W) in -1..1."""
        # Without autocast: bfloat16 has 8 bits, and rounding to them would destroy the residual.
        with torch.autocast(x_B3HW.device.type, enabled=False):
            # One pixel before and two after keep the size with four taps. Zeros would make edges at borders.
            across = _third(F.pad(x_B3HW, (1, 2, 0, 0), mode="replicate"), dim=3)
            down = _third(F.pad(x_B3HW, (0, 0, 1, 2), mode="replicate"), dim=2)
            residual_B6HW = torch.cat([across, down], dim=1) * self.get_buffer("scale")
            # Channels last: on a CPU the convolutions that follow need half the time.
            return torch.tanh(residual_B6HW).contiguous(memory_format=torch.channels_last)


def _third(x: Tensor, dim: int) -> Tensor:
    """Third-order differences x[i] - 3 x[i+1] + 3 x[i+2] - x[i+3]; a convolution takes 8 times as long."""
    first, second, third, fourth = (x.narrow(dim, start, x.shape[dim] - 3) for start in range(4))
    return torch.add(first - fourth, third - second, alpha=3.0)


def _highpass(normalization: Normalization) -> nn.Module:
    """A network of 17,217 parameters on `HighPass` residuals; any H, W >= 1.

    It is small and has dropout between its layers, so that it learns from few photographs. Measured: trained
    with ``taesd`` on 30 tiles of six photographs for 40 to 100 s on one core, it reached AUC .86 to .93 on
    tiles of three other sources. Without the dropout: .86 to .88; four times as wide: .86 to .88; residuals
    divided by their local strength: .73 to .89. Repeated runs differ by .03.
    """
    if normalization.std is None:
        raise UserError("highpass takes pixels, expected model.normalize resnet, clip or xception")
    width = 16
    return nn.Sequential(
        OrderedDict(
            residual=HighPass(normalization.std),
            block1=_conv_block(HighPass.CHANNELS, width, stride=1),  # the trace needs the full resolution
            block2=_conv_block(width, width, stride=2),
            block3=_conv_block(width, 2 * width, stride=2),
            channels=nn.Dropout2d(HIGHPASS_DROPOUT),
            block4=_conv_block(2 * width, 2 * width, stride=2),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(HIGHPASS_DROPOUT),
            fc=nn.Linear(2 * width, 1),
            logit=nn.Flatten(0),  # (B, 1) -> (B,)
        )
    )


def _conv_block(inputs: int, outputs: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)  # BatchNorm has a bias
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _nodown(blocks: str, layers: list[int], channels: int) -> nn.Module:
    """A ResNet whose stem keeps the resolution; its state dict has torchvision's names.

    This is the architecture ``res50nodown`` of Gragnaniello et al. (ICME 2021) and Corvi et al.
    (ICASSP 2023): `resnet_mod.py` with ``stride0=1, dropout=0.5``.
    """
    from torchvision.models import resnet

    trunk = resnet.ResNet(getattr(resnet, blocks), layers, num_classes=1)
    # torchvision's ResNet always has 3 input channels; ``residue3`` gives 6.
    if channels != trunk.conv1.in_channels:
        trunk.conv1 = nn.Conv2d(channels, trunk.conv1.out_channels, 7, padding=3, bias=False)
        nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's
    trunk.conv1.stride = (1, 1)  # torchvision's ResNet has strides of 2 here and in the pooling
    trunk.maxpool.stride = 1
    parts: OrderedDict[str, nn.Module] = OrderedDict(trunk.named_children())
    fc = parts.pop("fc")
    parts.update(flatten=nn.Flatten(), dropout=nn.Dropout(DROPOUT), fc=fc, logit=nn.Flatten(0))
    return nn.Sequential(parts)


def _res50nodown(normalization: Normalization) -> nn.Module:
    return _nodown("Bottleneck", [3, 4, 6, 3], normalization.channels)


def _res18nodown(normalization: Normalization) -> nn.Module:
    return _nodown("BasicBlock", [2, 2, 2, 2], normalization.channels)


BACKBONES: dict[str, Callable[[Normalization], nn.Module]] = {
    "res50nodown": _res50nodown,
    "res18nodown": _res18nodown,
    "highpass": _highpass,
}
"""The backbones by name. `timm:NAME` is possible, too, but not in here."""


def classifier_of(model: nn.Module) -> str:
    """The name of the last layer of a backbone, which gives its logit.

    Raises:
        UserError: a timm model ends in something else than one linear layer.
    """
    timm: Any = dict(model.named_children()).get("timm")
    if timm is None:
        return "fc"
    last = timm.get_classifier()
    if not isinstance(last, nn.Linear):
        raise UserError(f"the model ends in {type(last).__name__}, expected one linear layer")
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    return names[last]


def pooling_of(model: nn.Module) -> str | None:
    """What timm calls ``global_pool`` of a model, such as ``avg`` or ``token``; None if that is unknown."""
    timm = dict(model.named_children()).get("timm")
    for place in (timm, getattr(timm, "head", None)):
        pool = getattr(place, "global_pool", None)
        found = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
        if found is not None:
            return str(found)
    return None


def timm_model(name: str, channels: int, *, pretrained: bool, dropout: float | None = None) -> nn.Module:
    """A timm model with one logit.

    Args:
        name: a name of timm's, or NAME@SIDE for a model whose inputs have SIDE x SIDE pixels.
        channels: of its input.
        pretrained: whether to fetch its weights.
        dropout: before its last layer; None: timm's own rate.

    Raises:
        UserError: timm is not installed, has no such model, or has no weights for it.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(f"backbone {TIMM}{name} needs timm; pip install -e '.[timm]'") from error
    name, _, side = name.partition("@")
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), 5, cutoff=0.5)
        raise UserError(f"timm {timm.__version__} has no model {name!r}; close: {', '.join(close) or 'none'}")
    try:
        # Given only if needed: some models of timm do not accept the argument.
        takes: dict[str, Any] = {} if channels == 3 else {"in_chans": channels}
        if side:
            takes["img_size"] = int(side)
        if dropout is not None:
            takes["drop_rate"] = dropout
        model = _any_size(name, pretrained=pretrained, num_classes=1, **takes)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"timm can't create {name!r}: {one_line(error)}") from error
    return nn.Sequential(OrderedDict(timm=model, logit=nn.Flatten(0)))


def _any_size(name: str, **options: Any) -> nn.Module:
    """A timm model; a vision transformer resamples its position embeddings to the size of its input.

    Sides that are no multiple of its patches are padded with zeros, below and to the right.
    """
    import timm

    try:
        return timm.create_model(name, dynamic_img_size=True, dynamic_img_pad=True, **options)
    except TypeError as error:
        if "dynamic_img" not in str(error):
            raise
    return timm.create_model(name, **options)


def own_normalization(backbone: str) -> str:
    """Mean and standard deviation of the weights of a timm model, in the form MEAN/STD.

    Raises:
        UserError: it is no timm model, or timm is not installed or does not have it.
    """
    if not backbone.startswith(TIMM):
        raise UserError(f"model.normalize=auto is for timm models, and the backbone is {backbone}; name one")
    try:
        from timm.models import get_pretrained_cfg
    except ImportError as error:
        raise UserError(f"backbone {backbone} needs timm; pip install -e '.[timm]'") from error
    config: Any = get_pretrained_cfg(backbone.removeprefix(TIMM).partition("@")[0], allow_unregistered=True)
    if config is None:
        raise UserError(f"timm does not say what {backbone} was trained on; name model.normalize")
    return "/".join(",".join(map(str, values)) for values in (config.mean, config.std))
