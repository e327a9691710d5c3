"""Where the curves of a run go beside metrics.jsonl: TensorBoard, Weights & Biases, MLflow, Prometheus.

Each is its own package. All of them are optional but TensorBoard, and imported only if they are asked for.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from recon.base.errors import UserError, message_of
from recon.base.paths import is_special, printable
from train.output.tensorboard import TensorBoard

Tracker = Literal["none", "wandb", "mlflow"]
_EXTRAS = {"wandb": "wandb", "mlflow": "mlflow-skinny", "prometheus_client": "prometheus-client"}


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a tracker is told of a run."""

    out: str
    """Directory or URL, as text that can be printed."""
    id: str
    """Of the run at the tracker; a continued run has that of its checkpoint."""
    step: int
    """Steps that were done before."""
    options: Mapping[str, Any]
    """The options of the run."""


class Board(Protocol):
    """Shows curves."""

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Adds a point to each curve."""

    def flush(self) -> None:
        """Sends what is held back."""

    def close(self, *, failed: bool = False) -> None:
        """Ends the run there."""


def open_boards(facts: RunFacts, folder: Path, tracker: Tracker, prometheus: str | None) -> list[Board]:
    """All boards of a run.

    Args:
        facts: of the run.
        folder: for TensorBoard's files, beside which others may have local files.
        tracker: one beside TensorBoard.
        prometheus: see `Prometheus`; None: without.

    Raises:
        UserError: one can't be opened.
    """
    boards: list[Board] = [TensorBoard(folder, facts.step)]
    if prometheus is not None:
        boards.append(Prometheus(prometheus, facts.out))
    if tracker == "wandb":
        boards.append(WandB(facts, folder.parent))
    elif tracker == "mlflow":
        boards.append(MLflow(facts))
    return boards


class WandB:
    """A run of Weights & Biases; its environment names the project, the entity and the mode.

    Args:
        facts: of the run.
        folder: for its local files.

    Raises:
        UserError: the package is missing, or refuses.
    """

    def __init__(self, facts: RunFacts, folder: Path) -> None:
        wandb = _package("wandb")
        project = os.environ.get("WANDB_PROJECT", "pairstream")
        options = _texts(facts.options)
        try:
            self._run = wandb.init(
                id=facts.id, resume="allow", project=project, name=facts.out, dir=str(folder), config=options
            )
        except Exception as error:  # of the network, of the account, of its own process
            raise UserError(
                f"tracker=wandb: {message_of(error)}; WANDB_MODE=offline needs no account"
            ) from error
        # It takes no point before its newest one, and a continued run repeats some steps: so the
        # steps are a curve, too.
        self._run.define_metric("*", step_metric="step")

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        self._run.log({**values, "step": step})

    def flush(self) -> None:
        """A process of its own sends the points."""

    def close(self, *, failed: bool = False) -> None:
        """See `Board`."""
        self._run.finish(exit_code=int(failed))


class MLflow:
    """A run of MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where.

    It keeps the points that an interrupted run had sent after its checkpoint, beside those of the same steps.

    Args:
        facts: of the run.

    Raises:
        UserError: the package is missing, or refuses.
    """

    def __init__(self, facts: RunFacts) -> None:
        client = _package("mlflow").tracking.MlflowClient()
        try:
            self._client, self._run = client, _mlflow_run(client, facts)
        except Exception as error:  # of the network, of the store
            raise UserError(f"tracker=mlflow: {message_of(error)}; see MLFLOW_TRACKING_URI") from error

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        for name, value in values.items():
            # In a thread of its own, where a name that it does not take would be lost without an error.
            known = re.sub(r"[^\w./: -]", "_", name, flags=re.ASCII)
            self._client.log_metric(self._run, known, value, step=step, synchronous=False)

    def flush(self) -> None:
        """Threads of its own send the points."""

    def close(self, *, failed: bool = False) -> None:
        """See `Board`."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _mlflow_run(client: Any, facts: RunFacts) -> str:
    """The id of the run that has ours as a tag; a new one, if there is none."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "pairstream")
    found = client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else client.create_experiment(name)
    runs = client.search_runs([experiment], f"tags.pairstream = '{facts.id}'")
    if runs:
        client.update_run(runs[0].info.run_id, "RUNNING")
        return str(runs[0].info.run_id)
    run = client.create_run(experiment, tags={"pairstream": facts.id}, run_name=facts.out)
    for option, value in _flat(_texts(facts.options)).items():
        client.log_param(run.info.run_id, option, str(value)[:500])
    return str(run.info.run_id)


def _texts(value: Any) -> Any:
    """Options with their texts printable: a path may be no UTF-8, which the trackers don't take."""
    if isinstance(value, Mapping):
        return {name: _texts(one) for name, one in value.items()}
    return printable(value) if isinstance(value, str) else value


def _flat(options: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in options.items():
        inner = _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
        found |= inner
    return found


class Prometheus:
    """The newest values as gauges, such as ``pairstream_train_loss``; a validation set is a label of them.

    Args:
        place: see `read_place`.
        out: of the run; a label of each gauge.

    Raises:
        UserError: the package is missing, or the place can't be used.
    """

    def __init__(self, place: str, out: str) -> None:
        self._client = _package("prometheus_client")
        self._registry = self._client.CollectorRegistry()
        self._out, self._gauges, self._server = out, {}, None  # type: ignore[var-annotated]
        self._path, host, port = read_place(place)
        if self._path is not None and is_special(self._path):
            raise UserError(f"prometheus={place} is a pipe, a socket or a device, expected a file")
        try:
            if self._path is None:
                address = {"addr": host} if host else {}
                self._server, _ = self._client.start_http_server(port, registry=self._registry, **address)
        except (OSError, OverflowError) as error:
            raise UserError(f"prometheus={place}: {message_of(error)}") from error
        self.flush()

    @property
    def port(self) -> int | None:
        """Of the server; None if there is none."""
        return None if self._server is None else int(self._server.server_port)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        for name, value in {**values, "step": step}.items():
            *scope, figure = name.split("/")  # such as val/SET/auc; most have no set
            word = re.sub(r"\W", "_", "_".join(["pairstream", *scope[:1], figure]), flags=re.ASCII)
            if word not in self._gauges:
                labels = ["out", "set"]
                self._gauges[word] = self._client.Gauge(word, name, labels, registry=self._registry)
            self._gauges[word].labels(self._out, "".join(scope[1:])).set(value)
        self.flush()

    def flush(self) -> None:
        """See `Board`."""
        if self._path is None:
            return
        try:
            self._client.write_to_textfile(self._path, self._registry)
        except OSError as error:
            raise UserError(f"prometheus={self._path}: {message_of(error)}") from error

    def close(self, *, failed: bool = False) -> None:  # noqa: ARG002
        """See `Board`."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def read_place(place: str) -> tuple[str | None, str, int]:
    """The file, or the host and the port, of ``--prometheus``.

    Args:
        place: HOST:PORT serves the gauges there, and :PORT on all interfaces; a path ending in .prom is
            written, for the text-file collector of Prometheus' node exporter.

    Raises:
        UserError: it is neither.
    """
    if place.endswith(".prom"):
        return place, "", 0
    host, colon, port = place.rpartition(":")
    if not (colon and re.fullmatch("[0-9]+", port)):
        raise UserError(f"prometheus={place}, expected a file NAME.prom, HOST:PORT or :PORT")
    return None, host, int(port)


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed; pip install {_EXTRAS[name]}") from error
