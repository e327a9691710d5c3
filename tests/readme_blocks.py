"""The blocks of code in README.md, for the tests that run them and for tests/run_readers.py."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def programs() -> dict[str, str]:
    """The blocks of Python by the package that the first line imports."""
    return {re.split(r"[\s.]", block)[1]: block for block in blocks("python")}
