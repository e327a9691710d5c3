"""The names of a sample's reconstructions; apart from the schema, which imports pyarrow."""


def fake_name(number: int) -> str:
    """The name of a reconstruction in its sample, by its number from 0: ``fake``, ``fake2``, ``fake3``."""
    return f"fake{number + 1}" if number else "fake"
