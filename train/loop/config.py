"""The options of a training run. A YAML file of `configs/` sets them; dotted options override the file.

This file imports nothing heavy, so that ``--help`` answers at once.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from recon.base.errors import UserError
from recon.base.options import at_least_one, refuse_idle
from train.draws.config import AugmentConfig
from train.model.config import ModelConfig
from train.optim.config import LossConfig, OptimConfig
from train.order.config import OrderConfig
from train.output.boards import read_place
from train.world.config import WorldConfig

_HOW = "how quickly a rank gets its pairs, which are the same"
_FIRST = "rank 0 alone writes it"
MAY_DIFFER = {
    "data.workers": _HOW,
    "data.threads": _HOW,
    "data.reads": _HOW,
    "data.read_ahead_mb": _HOW,
    "data.decode": _HOW,
    "data.cache_dir": "a folder of the node",
    "data.cache_gb": "the size of that folder",
    "device": "cuda and auto may mean the same; what each rank found is compared",
    "threads": "cores of the node; as with the default, 0, the last bits of its gradients may differ",
    "tracker": _FIRST,
    "prometheus": _FIRST,
    "profile": _FIRST,
}
"""The options that nodes of one run may have different values of, and why; all others must be the same."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the pairs come from, and how a rank reads them."""

    train: str | dict[str, float]
    """Directory or URL of the packed training dataset, or several with their weights:
    with '{"s3://b/coco/train": 1, "s3://b/faces/train": 0.5}' an epoch holds each pair of the first
    dataset once and half of the pairs of the second; the next epoch takes the other half."""
    filter: str | None = None
    """Train only on pairs whose index columns fulfil this: 'width >= 256 and group == "coco"'."""
    limit: int | None = None
    """Train on this many pairs of each dataset, drawn by order.seed, the same ones in every epoch."""
    fakes: Literal["drawn", "first"] = "drawn"
    """Of datasets with several fakes of one photograph. drawn: one at each visit, by seed, epoch and pair, in
    training and in validation, which sees the same ones each time; first: always the first. A filter by
    autoencoder, say, leaves those fakes alone. train.evaluate scores every fake."""
    val: str | dict[str, str] | None = None
    """Directory or URL of the packed validation dataset, or several by names of your choice:
    '{"taesd": "data/one/val", "flux": "data/two/val"}'; without it there is no validation."""
    val_filter: str | None = None
    """Validate only on pairs whose index columns fulfil this."""
    val_crop: int = 256
    """Side in pixels of the centre crop that is validated, without augmentation."""
    val_batch: int = 16
    """Pairs in a validation batch of one rank."""
    workers: int = 1
    """1: each rank reads and decodes in a worker process; 0: in the rank's own process, to debug."""
    threads: int = 2
    """Decoding threads of a rank."""
    reads: int = 4
    """Requests to storage that a rank makes at the same time."""
    read_ahead_mb: int = 64
    """MiB that a rank reads in advance. The memory of its loader is about read_ahead_mb + lanes / world
    size x window x block stored pairs + 4 batches of windows, one a view and image, + 150 MiB."""
    decode: Literal["auto", "host", "device"] = "auto"
    """Who makes the pixels of baseline JPEGs that have entry points in the index. device: the host undoes
    their Huffman coding, the device does the rest for all windows of a batch together; host: the host does
    all. auto: the device if it is a GPU. The pixels are the same."""
    deadline_s: float = 60.0
    """Seconds to go on asking storage for a block; if it has not come by then, the run stops."""
    cache_dir: str | None = None
    """Local folder that caches blocks read from storage; all ranks and jobs of a node share it."""
    cache_gb: float = 100.0
    """Largest size of cache_dir in GB."""
    max_damaged: float = 0.001
    """Share of damaged pairs above which the run stops, judged after the first 1,000 pairs. A damaged pair
    is left out and listed in quarantine.jsonl."""

    def __post_init__(self) -> None:
        at_least_one(
            self, "threads", "reads", "read_ahead_mb", "val_crop", "val_batch", "limit", group="data."
        )
        if self.workers not in (0, 1):
            raise UserError(f"data.workers={self.workers}, expected 1 (a process of its own) or 0 (none)")
        for name in ("deadline_s", "cache_gb"):
            if not getattr(self, name) > 0:
                raise UserError(f"data.{name}={getattr(self, name)}, expected more than 0")
        if not 0 <= self.max_damaged <= 1:
            raise UserError(f"data.max_damaged={self.max_damaged}, expected a share in [0, 1]")
        if self.val is None:
            refuse_idle(
                self, "val_filter", "val_crop", "val_batch", because="there is no data.val", group="data."
            )
        if self.cache_dir is None:
            refuse_idle(self, "cache_gb", because="there is no data.cache_dir", group="data.")
        if self.val == {}:
            raise UserError("data.val={}, expected a dataset, or several with names")
        for name in self.val if isinstance(self.val, dict) else ():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", name):  # trackers take no other names
                raise UserError(f"data.val: a set is called {name!r}, expected letters, digits, space, . _ -")

    @property
    def validation_sets(self) -> dict[str, str]:
        """The validation datasets by name; a single one without a name is called val."""
        return {"val": self.val} if isinstance(self.val, str) else self.val or {}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run."""

    out: str
    """Directory or URL of the run: checkpoints, metrics.jsonl, TensorBoard files."""
    data: DataConfig
    """Where the pairs come from."""
    order: OrderConfig = field(default_factory=OrderConfig)
    """The order of an epoch."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """The augmentation of a training pair."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The detector."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The loss."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimiser."""
    world: WorldConfig = field(default_factory=WorldConfig)
    """The processes of the run."""
    epochs: int = 100
    """Largest number of epochs; usually the learning rate schedule stops the run earlier."""
    resume: Literal["never", "auto"] = "never"
    """auto: continue from the newest whole checkpoint in `out`; if there is none, start a new run. A restart
    by torchrun --max-restarts always does this."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints; there is one more after each epoch."""
    keep_checkpoints: int = 3
    """How many of the newest checkpoints to keep, in addition to best.pt."""
    device: str = "auto"
    """cuda, cpu, or auto: cuda if there is a GPU."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass; bfloat16 uses autocast."""
    channels_last: bool = False
    """Store activations in NHWC order."""
    compile: bool = False
    """Compile the model with torch.compile."""
    threads: int = 0
    """CPU threads of a rank's model; 0: the cores of the node divided by its ranks."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl; a line holds the mean over these steps."""
    tracker: Literal["none", "wandb", "mlflow"] = "none"
    """Where curves go in addition to TensorBoard: Weights & Biases, or MLflow, if its package is installed.
    Their own environment variables name the server, the account and the project."""
    prometheus: str | None = None
    """Gauges for Prometheus: NAME.prom is written for a node exporter, HOST:PORT or :PORT serves them."""
    profile: int = 0
    """Record so many steps, after the first three, in trace.json: loader, transfer and steps of rank 0."""

    def __post_init__(self) -> None:
        if not self.out:
            raise UserError("out must not be empty")
        at_least_one(self, "epochs", "log_every", "checkpoint_every", "keep_checkpoints")
        sets, best_on = self.data.validation_sets, self.optim.best_on
        if best_on is not None and best_on not in sets:
            known = ", ".join(sets) or "none"
            raise UserError(f"optim.best_on={best_on}, expected a set of data.val, which are: {known}")
        if self.data.val is None:
            names = ("best_by", "stop_after")
            refuse_idle(self.optim, *names, because="there is no data.val", group="optim.")
        if self.world.timeout_s <= self.data.deadline_s:
            raise UserError(
                f"world.timeout_s={self.world.timeout_s}, expected more than data.deadline_s="
                f"{self.data.deadline_s}: the other ranks wait for one that waits for storage"
            )
        if self.prometheus is not None:
            read_place(self.prometheus)
        if self.profile < 0:
            raise UserError(f"profile={self.profile}, expected 0 (none) or more steps")
        if self.model.train == "head":
            because = "model.train=head leaves one layer to train"
            refuse_idle(self.optim, "layer_decay", because=because, group="optim.")
        if self.threads < 0:
            raise UserError(f"threads={self.threads}, expected 0 (all cores) or more")
        self._check_loss()

    def _check_loss(self) -> None:
        """Refuses terms that the other options leave nothing to compare."""
        if self.loss.consistency and self.augment.views < 2:
            raise UserError(
                f"loss.consistency={self.loss.consistency} compares the views of an image, expected "
                f"augment.views of 2 or more, found {self.augment.views}"
            )
        for name in ("contrastive", "drct"):
            if not (weight := getattr(self.loss, name)):
                continue
            if self.optim.accumulate > 1:
                raise UserError(
                    f"loss.{name}={weight} compares all images of a batch, and optim.accumulate="
                    f"{self.optim.accumulate} never has them together; leave one of them out"
                )
            if self.model.train == "head":
                raise UserError(
                    f"loss.{name}={weight} would be ignored: it trains features, and model.train=head leaves "
                    "them as they are"
                )


def flat_options(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields name and value of each option, named as on the command line.

    Args:
        options: of a run, as `dataclasses.asdict` gives them.
        prefix: of their names.
    """
    for name, value in options.items():
        # The keys of these are datasets, not names of options.
        if isinstance(value, Mapping) and f"{prefix}{name}" not in ("data.train", "data.val"):
            yield from flat_options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
