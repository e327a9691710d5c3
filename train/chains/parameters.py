"""The parameters of degradations: which values they take, and what is drawn for an image."""

from dataclasses import dataclass

ANY = "any"
"""A choice that is drawn for each image."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A parameter that is a number."""

    low: float
    high: float
    whole: bool = False
    """Whether only whole numbers will do."""
    default: float | None = None
    """None: it must be given."""

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return f"a {'whole ' if self.whole else ''}number {self.low:g} to {self.high:g}"

    def takes(self, value: object) -> bool:
        """Whether the value will do."""
        is_number = isinstance(value, int) or (isinstance(value, float) and not self.whole)
        return is_number and not isinstance(value, bool) and self.low <= value <= self.high  # type: ignore[operator]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A parameter that is one of some words or numbers."""

    words: tuple[str | float, ...]
    default: str | float | None = None
    """None: it must be given."""

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return f"one of {', '.join(map(repr, self.words))}, or 'any', which draws one for each image"

    def takes(self, value: object) -> bool:
        """Whether the value will do."""
        return value == ANY or value in self.words


@dataclass(frozen=True, kw_only=True)
class Between:
    """A number that is drawn for each image, uniform from `low` to `high`; a whole number may be both."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"U({self.low:g}, {self.high:g})"


Parameter = Number | Choice
Value = float | str | Between


def drawn(value: Value, parameter: Parameter, word: int) -> float | str:
    """The value of a parameter for one image.

    Args:
        value: as the YAML gives it.
        parameter: whose value it is.
        word: 64 random bits, not negative.
    """
    if isinstance(value, Between):
        share = (word >> 11) * 2.0**-53
        if isinstance(parameter, Number) and parameter.whole:
            return int(value.low) + int(share * (int(value.high) - int(value.low) + 1))
        return value.low + share * (value.high - value.low)
    if isinstance(parameter, Choice) and value == ANY:
        return parameter.words[word % len(parameter.words)]
    return value


def largest(value: Value, parameter: Parameter) -> float:
    """The largest number that a parameter may have; of words that are no numbers, 0."""
    if isinstance(value, Between):
        return value.high
    if value == ANY and isinstance(parameter, Choice):
        return max(one if isinstance(one, int | float) else 0 for one in parameter.words)
    return value if isinstance(value, int | float) else 0
