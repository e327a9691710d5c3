"""The options of a training run; one YAML of `configs/` fills them, dotted options override.

Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from dataclasses import dataclass, field
from typing import Literal

from recon.base.errors import UserError
from recon.base.options import at_least_one, refuse_idle
from train.draws.config import AugmentConfig
from train.model.config import ModelConfig
from train.order.config import OrderConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the pairs come from and how a rank reads them."""

    train: str | dict[str, float]
    """Directory or URL of the packed training dataset, or several with their weights:
    '{"s3://b/coco/train": 1, "s3://b/faces/train": 0.5}' sees each pair of the first once an epoch
    and half of the second, another half the next time."""
    filter: str | None = None
    """Trains only on pairs whose index columns say so: 'width >= 256 and group == "coco"'."""
    val: str | None = None
    """Directory or URL of the packed validation dataset; without it nothing is validated."""
    val_filter: str | None = None
    """Validates only on pairs whose index columns say so."""
    val_crop: int = 256
    """Side of the clean centre crop that validation sees."""
    val_batch: int = 16
    """Pairs that a rank validates together."""
    workers: int = 1
    """1 reads and decodes in a process of its own beside each rank; 0 in the rank itself, to debug."""
    threads: int = 2
    """Threads of a rank that decode."""
    reads: int = 4
    """Requests to storage that a rank has under way at once."""
    read_ahead_mb: int = 64
    """MiB that a rank reads ahead of need. Its loader holds in all about read_ahead_mb + lanes / world
    size x window x block stored pairs + 4 batches of windows + 150 MiB."""
    deadline_s: float = 60.0
    """Seconds after which a block that storage does not deliver, however often it is asked, stops the run."""
    cache_dir: str | None = None
    """Local folder that keeps blocks read from storage, shared by all ranks and jobs of a node."""
    cache_gb: float = 100.0
    """Most that cache_dir may hold, in GB."""
    max_damaged: float = 0.001
    """Share of the pairs that may be damaged at rest (each is left out and listed in quarantine.jsonl)
    before the run stops; counted after the first 1,000."""

    def __post_init__(self) -> None:
        at_least_one(self, "threads", "reads", "read_ahead_mb", "val_crop", "val_batch", group="data.")
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


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam, and the plateau schedule on validated balanced accuracy."""

    lr: float = 1e-4
    """First learning rate."""
    patience: int = 5
    """Epochs without a gain of balanced accuracy before the rate is divided by ten."""
    min_lr: float = 1e-6
    """Training stops once the rate falls below this."""
    max_nonfinite: int = 10
    """Steps with a non-finite loss (each is left out and counted) before the run stops."""

    def __post_init__(self) -> None:
        at_least_one(self, "patience", group="optim.")
        if self.max_nonfinite < 0:
            raise UserError(f"optim.max_nonfinite={self.max_nonfinite}, expected 0 or more")
        if not 0 < self.min_lr <= self.lr:
            raise UserError(f"expected 0 < optim.min_lr <= optim.lr, found {self.min_lr} and {self.lr}")


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
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimiser."""
    epochs: int = 100
    """Epochs at most; the plateau schedule usually stops earlier."""
    resume: Literal["never", "auto"] = "never"
    """auto goes on from the newest whole checkpoint in `out`, and begins where there is none. A restart by
    torchrun --max-restarts always does."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints; one more follows every epoch."""
    keep_checkpoints: int = 3
    """Newest checkpoints that are kept, beside best.pt."""
    device: str = "auto"
    """cuda, cpu, or auto: cuda where there is one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass; bfloat16 uses autocast."""
    channels_last: bool = False
    """Lay activations out as NHWC."""
    compile: bool = False
    """Compile the model with torch.compile."""
    threads: int = 0
    """CPU threads of a rank's model; 0 takes the cores divided by the ranks of the node."""
    log_every: int = 10
    """Steps between two lines of metrics; each is the mean over those steps."""

    def __post_init__(self) -> None:
        if not self.out:
            raise UserError("out must not be empty")
        at_least_one(self, "epochs", "log_every", "checkpoint_every", "keep_checkpoints")
        if self.threads < 0:
            raise UserError(f"threads={self.threads}, expected 0 (all cores) or more")
