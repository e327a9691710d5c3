"""TensorBoard's files, which every run has."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.base.errors import UserError
from recon.base.paths import printable


class TensorBoard:
    """TensorBoard's files.

    Args:
        folder: for the files.
        step: hides the points after it, which an interrupted run had written.

    Raises:
        UserError: the folder can't be written to.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._link: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._writer: Any = SummaryWriter(self._encodable(folder), purge_step=step + 1)
        except OSError as error:
            raise UserError(f"can't write the log in {folder}: {error.strerror or error}") from error

    def _encodable(self, folder: Path) -> str:
        """A path to the folder; by a link, if its own is not UTF-8, which the package takes alone."""
        if printable(str(folder)) == str(folder):
            return str(folder)
        folder.mkdir(exist_ok=True)
        self._link = tempfile.TemporaryDirectory(prefix="pairstream-")
        link = Path(self._link.name) / folder.name
        link.symlink_to(folder.absolute())
        return str(link)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """See `train.output.boards.Board`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """See `train.output.boards.Board`."""
        self._writer.flush()

    def close(self, *, failed: bool = False) -> None:  # noqa: ARG002
        """See `train.output.boards.Board`."""
        self._writer.close()
        if self._link is not None:
            self._link.cleanup()
