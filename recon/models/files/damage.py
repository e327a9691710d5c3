"""Files of weights that were not fetched whole, told in one line before torch is imported."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from recon.base.errors import UserError
from recon.base.paths import is_file, is_special

Shapes = dict[str, tuple[int, ...]]
"""Shape of each tensor, by its name."""

_NOT_FETCHED = {
    b"version https://git-lfs": "a Git LFS pointer in place of the weights; run git lfs pull in its folder",
    b"<": "a web page in place of the weights; download the file itself (on the hub: /resolve/, not /blob/)",
}


def check_whole(path: Path) -> None:
    """Refuses a file of weights that is a pointer, a web page, or cut.

    Raises:
        UserError: the file can't be read, or is no whole file of weights.
    """
    if path.suffix == ".safetensors":
        read_shapes(path)
    elif _head(path, 2) == b"PK" and not zipfile.is_zipfile(path):  # the end of a zip file says what is in it
        raise UserError(f"{path} is cut after {path.stat().st_size} bytes; fetch it again")


def read_shapes(path: Path) -> Shapes:
    """Returns the shape of each tensor of a safetensors file from its header.

    The header is a JSON object with the place of each tensor, after 8 bytes with its length:
    https://github.com/huggingface/safetensors#format

    Raises:
        UserError: as `check_whole`.
    """
    head, size = _head(path, 9), path.stat().st_size
    length = int.from_bytes(head[:8], "little")
    if len(head) == 9 and head[8:] != b"{":
        raise UserError(
            f"{path} is no safetensors file; fetch it again, or give it the suffix it should have"
        )
    if size < 8 + length or size < 8:
        raise UserError(f"{path} is cut after {size} bytes, within its header; fetch it again")
    with path.open("rb") as file:
        shapes, end = _parsed(path, file.read(8 + length)[8:])
    if size != 8 + length + end:
        raise UserError(f"{path} is cut: it has {size} bytes, expected {8 + length + end}; fetch it again")
    return shapes


def _parsed(path: Path, header: bytes) -> tuple[Shapes, int]:
    """Returns the shapes, and where the last tensor ends."""
    try:
        entries = {name: one for name, one in json.loads(header).items() if name != "__metadata__"}
        end = max((one["data_offsets"][1] for one in entries.values()), default=0)
        return {name: tuple(one["shape"]) for name, one in entries.items()}, int(end)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{path} has no header of a safetensors file; fetch it again") from error


def _head(path: Path, count: int) -> bytes:
    """Returns the first bytes of a file that is no pointer and no web page."""
    if is_special(path):
        raise UserError(f"{path} is a pipe, a socket or a device, expected a file of weights")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error
    for start, what in _NOT_FETCHED.items():
        if head.startswith(start):
            raise UserError(f"{path} is {what}")
    if not head:
        raise UserError(f"{path} is empty; fetch it again")
    return head[:count]


def read_index(index: Path) -> list[Path]:
    """Returns the files of weights that an index names, sorted by name.

    Raises:
        UserError: the index is damaged, or a file that it names is missing.
    """
    files = [index.with_name(name) for name in part_names(index)]
    _check_there(index, files)
    return files


def part_names(index: Path) -> list[str]:
    """Returns the names of the files that an index names, sorted; they need not be there.

    Raises:
        UserError: the index is damaged.
    """
    _head(index, 1)
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        return [index.with_name(name).name for name in sorted(names)]
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"{index} is no index of weights ({type(error).__name__}: {error}); expected JSON whose "
            "weight_map names the file of each weight; fetch the model again"
        ) from error


def _check_there(index: Path, files: Sequence[Path]) -> None:
    if missing := [path.name for path in files if not is_file(path)]:
        raise UserError(
            f"{index.parent} lacks {', '.join(missing)} of the {len(files)} files that {index.name} names; "
            "fetch the model again"
        )
    if not files:
        raise UserError(f"{index} names no file of weights; fetch the model again")
