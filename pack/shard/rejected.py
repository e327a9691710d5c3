"""``rejected.jsonl``: the images or samples of a dataset that did not become pairs, with their causes."""

import json
from collections.abc import Sequence
from typing import Any

REJECTED = "rejected.jsonl"
"""Name of the file beside the manifest; absent if nothing was rejected."""


def rejected_bytes(rejected: Sequence[dict[str, Any]]) -> bytes:
    """The file: a line of JSON for each rejected image or sample, with its ``cause`` among the values."""
    return "".join(json.dumps(one, sort_keys=True) + "\n" for one in rejected).encode()
