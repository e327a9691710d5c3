"""Small runs whose ranks meet their end as a plan says, in a module that started processes can import.

A rank is started in one of two ways: forked from a server that has imported everything (`Ranks`; a
run takes about 2 s), or by torchrun, this file being the script: FILE PLAN OPTIONS...
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import fork_server, meeting
from patience import PATIENCE_S

import train.loop.run
from pack.storage import Store
from train import command
from train.draws.config import AugmentConfig
from train.loader.transfer import Batch
from train.loop.config import DataConfig, TrainConfig
from train.loop.trainee import StepResult, Trainee
from train.model.config import ModelConfig
from train.optim.config import OptimConfig
from train.order.config import OrderConfig
from train.world import stop as ending


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens, when, and to whom."""

    signal: str = "SIGKILL"
    to: str = "self"
    """self, group (the rank and all that it started), or parent (torchrun)."""
    moment: str = "step"
    """join (the other ranks), start, step, validation, or publish: in the midst of writing a checkpoint."""
    step: int = 0
    """As this step begins (publish, validation: the first after so many steps)."""
    ranks: Sequence[int] = (0, 1, 2, 3)
    times: int = 1
    restarts: Sequence[int] = (0,)
    """In which of torchrun's starts."""
    keys: str | None = None
    """Folder that is to get the keys of each step, by rank."""


NOTHING = Plan(ranks=())


def follow(plan: Plan) -> None:
    """Makes this process, a rank, do what the plan says."""
    rank = int(os.environ["RANK"])
    if plan.keys is not None:
        _record_keys(Path(plan.keys) / f"{rank}.jsonl")
    restart = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    if rank in plan.ranks and restart in plan.restarts:
        moments = {"join": _at_join, "start": _at_start, "step": _at_step}
        moments |= {"validation": _in_validation, "publish": _in_publishing}
        moments[plan.moment](plan)


def _strike(plan: Plan) -> None:
    number = signal.Signals[plan.signal]
    for _ in range(plan.times):
        if plan.to == "group":
            os.killpg(os.getpgid(0), number)
        else:
            os.kill({"self": os.getpid(), "parent": os.getppid()}[plan.to], number)
    deadline = time.monotonic() + PATIENCE_S
    while not preempt_flags or not preempt_flags[0].is_set:  # torchrun takes a moment to pass it on
        assert time.monotonic() < deadline, "the signal did not come back"
        time.sleep(0.01)


preempt_flags: list[ending.StopFlag] = []


class _KnownFlag(ending.StopFlag):
    """Tells this module of itself."""

    def __init__(self) -> None:
        super().__init__()
        preempt_flags.append(self)


def _at_join(plan: Plan) -> None:
    torch.distributed.init_process_group = lambda *_, **__: _strike(plan)


def _at_start(plan: Plan) -> None:
    original = train.loop.run.build_loaders

    def build_loaders(*arguments: Any) -> Any:
        _strike(plan)
        return original(*arguments)

    train.loop.run.build_loaders = build_loaders


def _at_step(plan: Plan) -> None:
    original = Trainee.step

    def step(self: Trainee, batch: Batch, number: int, **more: Any) -> StepResult:
        if number == plan.step:
            _strike(plan)
        return original(self, batch, number, **more)

    Trainee.step = step  # type: ignore[method-assign]


def _in_validation(plan: Plan) -> None:
    steps, original_step, original = [0], Trainee.step, Trainee._logits

    def step(self: Trainee, batch: Batch, number: int, **more: Any) -> StepResult:
        steps[0] = number + 1
        return original_step(self, batch, number, **more)

    def logits(self: Trainee, batch: Batch) -> torch.Tensor:
        if steps[0] >= plan.step:
            _strike(plan)
        return original(self, batch)

    Trainee.step, Trainee._logits = step, logits  # type: ignore[method-assign]


def _in_publishing(plan: Plan) -> None:
    original = train.loop.run.publish_checkpoint

    def publish(store: Store, name: str, data: memoryview) -> None:
        if name.startswith("step-") and int(name[5:-3]) >= plan.step:
            with store.publish(name) as file:
                file.write(data[: len(data) // 2])
                file.flush()
                _strike(plan)
        original(store, name, data)

    train.loop.run.publish_checkpoint = publish


def _record_keys(path: Path) -> None:
    original = Trainee.step

    def step(self: Trainee, batch: Batch, number: int, **more: Any) -> StepResult:
        result = original(self, batch, number, **more)
        with path.open("a") as file:
            file.write(json.dumps([number, batch.keys]) + "\n")
        return result

    Trainee.step = step  # type: ignore[method-assign]


def _train(plan: Plan, options: Sequence[str]) -> None:
    command.StopFlag = _KnownFlag  # type: ignore[misc]
    follow(plan)
    sys.argv = ["train", *options]
    command.main()


def _forked_rank(
    rank: int, size: int, plan: Plan, options: Sequence[str], error: str, variables: dict[str, str]
) -> None:
    os.setsid()
    os.environ.update(variables)
    os.dup2(os.open(error, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(size))
    _train(plan, options)


class Ranks:
    """Starts the ranks of runs, each forked from one process that has imported all they need."""

    def __init__(self) -> None:
        self._context = fork_server()

    def run(
        self, size: int, options: Sequence[str], folder: Path, plan: Plan = NOTHING
    ) -> tuple[list[int], str]:
        """Runs `size` ranks to their end; returns their statuses and what they said."""
        error = folder / "ranks.err"
        error.unlink(missing_ok=True)
        with meeting() as place:
            statuses = self._statuses(size, options, plan, error, place)
        text = error.read_text() if error.exists() else ""
        hang = statuses.count(None)
        assert not hang, f"{hang} ranks hang: {text}"
        return [status or 0 for status in statuses], text

    def _statuses(
        self, size: int, options: Sequence[str], plan: Plan, error: Path, place: dict[str, str]
    ) -> list[int | None]:
        variables = place | {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        arguments = [(rank, size, plan, list(options), str(error), variables) for rank in range(size)]
        ranks: list[BaseProcess] = [
            self._context.Process(target=_forked_rank, args=each)  # type: ignore[attr-defined]
            for each in arguments
        ]
        for rank in ranks:
            rank.start()
        deadline = time.monotonic() + PATIENCE_S
        for rank in ranks:
            rank.join(max(0.0, deadline - time.monotonic()))
        statuses = [rank.exitcode for rank in ranks]
        for rank in ranks:
            if rank.exitcode is None:
                rank.kill()
        return statuses


def small_config(data: Mapping[str, str], out: Path | str, /, **more: Any) -> TrainConfig:
    """A run of the datasets ``train`` and, if there is one, ``val``, on 8 pairs a step."""
    val = {"val": data["val"], "val_crop": 16, "val_batch": 2} if "val" in data else {}
    chosen: dict[str, Any] = {
        "data": DataConfig(train=data["train"], workers=0, **val),  # type: ignore[arg-type]
        "augment": AugmentConfig(crop=16),
        "order": OrderConfig(global_batch=8, lanes=16, block=2),
        "model": ModelConfig(backbone="highpass"),
        "optim": OptimConfig(lr=0.002, patience=1),
        "epochs": 2,
        "log_every": 3,
        "checkpoint_every": 3,
        "resume": "auto",
        "device": "cpu",
        "threads": 1,
    }
    return TrainConfig(out=str(out), **(chosen | more))


def as_options(config: TrainConfig) -> list[str]:
    """A config as the command line that gives it."""
    return [
        f"--{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in _flat(asdict(config))
    ]


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> ending.StopFlag:
    """A flag that is set in the midst of the step before; so the `step`-th, or a validation, is the last."""
    stop, original = ending.StopFlag(), Trainee.step

    def strike(self: Trainee, batch: Any, number: int, **more: Any) -> StepResult:
        stop.is_set = stop.is_set or number + 2 == step
        return original(self, batch, number, **more)

    monkeypatch.setattr(Trainee, "step", strike)
    return stop


def keys_of_steps(folder: Path, steps: int) -> list[set[str]]:
    """Keys of all ranks by step, as a plan with `keys` recorded them; a step has no key twice."""
    found: list[list[str]] = [[] for _ in range(steps)]
    for path in folder.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            number, keys = json.loads(line)
            found[number] += keys
    assert all(len(set(keys)) == len(keys) for keys in found)
    return [set(keys) for keys in found]


def same_bits(one: Any, other: Any) -> bool:
    """Whether two states are equal to the last bit, through dicts and lists of tensors."""
    if isinstance(one, torch.Tensor):
        equal_kind = one.dtype == other.dtype and one.shape == other.shape
        return equal_kind and one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_bits, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def as_argument(plan: Plan) -> str:
    """For the command line of this file."""
    return json.dumps(asdict(plan))


if __name__ == "__main__":
    _train(Plan(**json.loads(sys.argv[1])), sys.argv[2:])
