"""What a report says, whatever its form."""

from collections.abc import Sequence
from dataclasses import dataclass

from train.reports.inputs.evaluated import Evaluated
from train.reports.inputs.mistakes import Mistakes
from train.reports.inputs.pictures import Drawn
from train.reports.inputs.run_log import History


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A run and an evaluation, read."""

    title: str
    note: str | None
    """What a reader has to know before the figures."""
    run: str
    """Where the run is."""
    history: History
    found: Evaluated
    mismatch: str | None
    """What to know if the scored detector is not of the run."""
    mistakes: Sequence[Mistakes] | str
    """Of both classes; or why there are none."""
    preview: Drawn | None
    """A picture of pairs."""
    robustness: Sequence[Drawn]
    """The curves of train.robustness."""

    @property
    def pictures(self) -> list[Drawn]:
        """The pictures that are shown."""
        return [*self.robustness, *([self.preview] if self.preview else [])]

    @property
    def scored_as(self) -> str:
        """Which part of the images was scored, in words."""
        crop, view = self.found.facts.get("crop"), self.found.facts.get("view", "whole")
        if crop is not None:
            return f"centre crops of {crop} pixels"
        return "whole images" if view == "whole" else f"images as {view}"
