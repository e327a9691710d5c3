"""Evaluations that are killed when a part of them is published."""

from typing import Any

import pytest

from train.evaluation import scored
from train.evaluation.work.parts import publish_part


class Killed(BaseException):
    """Stands for a signal."""


def kill_after(count: int, patched: pytest.MonkeyPatch) -> list[int]:
    """Lets `count` parts be published and kills instead of the next; returns their numbers, as they come."""
    published: list[int] = []

    def publish(store: Any, part: Any, *rest: Any) -> None:
        if len(published) == count:
            raise Killed
        publish_part(store, part, *rest)
        published.append(part.number)

    patched.setattr(scored, "publish_part", publish)
    return published
