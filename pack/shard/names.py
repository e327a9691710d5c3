"""Names of reconstructions and files; apart from the schema, which imports pyarrow."""


def fake_name(number: int) -> str:
    """The name of a reconstruction in its sample, by its number from 0: ``fake``, ``fake2``, ``fake3``."""
    return f"fake{number + 1}" if number else "fake"


def hint_member(key: str) -> str:
    """The name of the member of a tar that holds the hints of a pair: `pack.shard.hints`.

    WebDataset ignores members of such names (``skip_meta`` in webdataset/tariterators.py), and other readers
    those without a dot.
    """
    return f"__hints__/{key}"


def hints_name(shard: str) -> str:
    """The name of the file of hints beside a tar that had none."""
    return f"{shard}.hints"
