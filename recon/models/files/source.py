"""An autoencoder's config and weights, wherever they are, as a folder that `from_pretrained` loads."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from recon.base.errors import UserError
from recon.base.paths import is_dir, is_file, names_in
from recon.models.files.choice import STEM, SUFFIXES, Choice, chosen, is_part, without_weights
from recon.models.files.damage import check_whole, read_index
from recon.models.files.single import Read, open_single
from recon.models.files.tensors import write

CONFIG = "config.json"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Source:
    """An autoencoder in files."""

    place: Path
    """The folder or file that holds it."""
    settings: dict[str, Any]
    """The model's config."""
    files: list[Path]
    """The files of its weights, sorted by name: what is hashed."""
    _fill: Callable[[Path], list[Path]] | None = None
    """Puts the weights into a folder under the names that diffusers expects; None if they have them."""

    @contextmanager
    def as_folder(self) -> Iterator[list[Path]]:
        """Yields the files of weights in a folder with config.json, under the names that diffusers expects.

        Raises:
            UserError: the weights are not those of the config, or the folder can't be written.
        """
        if self._fill is None:
            yield self.files
            return
        with ExitStack() as stack:
            try:
                name = stack.enter_context(TemporaryDirectory(prefix="pairstream-"))
                (Path(name) / CONFIG).write_text(json.dumps(self.settings), "utf-8")
                files = self._fill(Path(name))
            except OSError as error:
                raise UserError(
                    f"can't convert {self.place} in {gettempdir()}: {error.strerror or error}; "
                    "free space there, or set TMPDIR to another folder"
                ) from error
            try:
                yield files
            except UserError as error:  # which names a folder that is gone when the user reads it
                text = str(error).replace(str(files[0]), str(self.files[0])).replace(name, str(self.place))
                raise UserError(text) from error


def open_source(place: Path) -> Source:
    """Opens a folder with config.json and weights, or a single file of weights.

    Raises:
        UserError: config or weights are missing, damaged, or of no kind that can be loaded.
    """
    return _open_folder(place) if is_dir(place) else _open_file(place)


def read_settings(path: Path) -> dict[str, Any]:
    """Returns a model's config.

    Raises:
        UserError: it is no readable JSON object.
    """
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path} holds no JSON object, expected a model's config")
    return settings


def _open_folder(folder: Path) -> Source:
    settings = read_settings(folder / CONFIG)
    names = names_in(folder)
    choice = chosen(names)
    if choice is None:
        raise UserError(without_weights(str(folder), names))
    first = folder / choice.name
    files = read_index(first) if choice.is_index else [first]
    for path in files:
        check_whole(path)
    if choice.variant is None:
        return Source(place=folder, settings=settings, files=files)
    _LOG.warning("%s has no plain weights; the variant %s is used: %s", folder, choice.variant, choice.name)
    return Source(place=folder, settings=settings, files=files, _fill=_linking(choice, first, files))


def _open_file(path: Path) -> Source:
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is no file of weights, expected one that ends in {', '.join(SUFFIXES)}")
    if is_part(path.name):
        raise UserError(f"{path} is one of several parts; give its folder")
    beside = path.with_name(CONFIG)
    if path.name.startswith(STEM) and is_file(beside):  # one of a folder's variants
        check_whole(path)
        choice = Choice(name=path.name, variant=None, is_index=False, is_safe=path.suffix == ".safetensors")
        return Source(
            place=path, settings=read_settings(beside), files=[path], _fill=_linking(choice, path, [path])
        )
    settings, files, read = open_single(path)
    return Source(place=path, settings=settings, files=files, _fill=_writing(read))


def _linking(choice: Choice, first: Path, files: list[Path]) -> Callable[[Path], list[Path]]:
    """Returns what links to the files, the first of them (weights or index) under its plain name."""
    plain = f"{STEM}.{'safetensors' if choice.is_safe else 'bin'}"

    def fill(folder: Path) -> list[Path]:
        (folder / (f"{plain}.index.json" if choice.is_index else plain)).symlink_to(first.absolute())
        if not choice.is_index:
            return [folder / plain]
        for path in files:
            (folder / path.name).symlink_to(path.absolute())
        return [folder / path.name for path in files]

    return fill


def _writing(read: Read) -> Callable[[Path], list[Path]]:
    def fill(folder: Path) -> list[Path]:
        path = folder / f"{STEM}.safetensors"
        write(read(), path)
        return [path]

    return fill
