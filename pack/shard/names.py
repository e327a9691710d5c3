"""Names of reconstructions, files and members; apart from the schema, which imports pyarrow."""

import re

from recon.base.walk import is_hidden

# Both are from webdataset 1.0.2, tariterators.py: base_plus_ext, and the names that tar_file_iterator skips.
# But hidden names do not match: webdataset takes "g/._0.jpg" of macOS for a sample "g/" between others.
_KEY_AND_FIELD = re.compile(r"^((?:.*/|)[^./]+)[.]([^/]*)$")
_META = re.compile(r"__[^/]*__($|/)")


def fake_name(number: int) -> str:
    """The name of a reconstruction in its sample, by its number from 0: ``fake``, ``fake2``, ``fake3``."""
    return f"fake{number + 1}" if number else "fake"


def hint_member(key: str) -> str:
    """The name of the member of a tar that holds the hints of a pair: `pack.shard.hints`.

    Readers of WebDataset ignore hidden files: webdataset, datasets and Energon, because nothing precedes the
    dot, and DALI, which would take a member without a dot for a sample that lacks all fields.
    """
    return f".{key}.hints"


def is_hidden_of_others(name: str) -> bool:
    """Whether a member of a tar is hidden, and has no such name."""
    return is_hidden(name) and not (name.startswith(".") and name.endswith(".hints"))


def hints_name(shard: str) -> str:
    """The name of the file of hints beside a tar that had none."""
    return f"{shard}.hints"


def key_and_field(name: str) -> tuple[str, str] | None:
    """The key of a sample, and the field in it, that a tar's member of this name is; None if it is neither.

    The field is as it stands in the tar; webdataset takes it in small letters, Hugging Face's datasets not.
    """
    found = None if _META.match(name) else _KEY_AND_FIELD.match(name)
    return found and (found[1], found[2])
