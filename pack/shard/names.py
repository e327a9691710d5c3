"""Names of reconstructions and files; apart from the schema, which imports pyarrow."""

from recon.base.walk import is_hidden


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
