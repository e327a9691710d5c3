"""Which words mean real and which fake: names of folders, values of a column."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

from recon.base.errors import UserError
from train.evaluation.inputs.source import Label

REALS = ("0_real", "real", "reals", "nature", "natural", "authentic")
"""Words for real images, in lower case: those of the published trees and tables."""
FAKES = ("1_fake", "fake", "fakes", "ai", "generated", "synthetic")
"""Words for fakes, in lower case."""

_CLOSE = 0.75  # one letter wrong in four

CHOICES = (
    "name the words by --real and --fake (folders or values, e.g. --real photos --fake sd15,flux), "
    "or pass --label real or --label fake for all images"
)


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words of one input."""

    real: frozenset[str] = field(default_factory=lambda: frozenset(REALS))
    fake: frozenset[str] = field(default_factory=lambda: frozenset(FAKES))
    label: Label = None
    """The label of all images, where the user says so."""
    real_only: bool = False
    """Whether --real alone was given: in a column, every other value is then a fake's."""
    given: frozenset[str] = frozenset()
    """The words that the user gave."""

    def check_used(self, place: str, kind: str, found: Iterable[object]) -> None:
        """Refuses words of the user that nothing is called.

        Args:
            place: that was searched, for the message.
            kind: of what was searched.
            found: the names of the folders, or the values of the column.
        """
        there = set(_plain(map(str, found)))
        if idle := sorted(self.given - there):
            shown = ", ".join(sorted(there)[:8]) or "none"
            raise UserError(f"{place}: no {kind} is called {idle[0]}; found {shown}; see --real and --fake")

    def check_generators(self, place: str, kind: str, found: Iterable[str]) -> None:
        """Refuses names that would count as generators but look like a misspelt word for real.

        Args:
            place: that was searched, for the message.
            kind: of what was searched.
            found: names of which neither class is said.
        """
        for name in dict.fromkeys(found):
            close = get_close_matches(_plain_word(name), self.real, n=1, cutoff=_CLOSE)
            if close and len(name.strip()) <= len(close[0]) + 1 and self.label_of(name) is None:
                raise UserError(
                    f"{place}: {kind} {name!r} would be a generator, but it looks like {close[0]!r}; say "
                    f"what it is: --fake {name.strip()} or --real {close[0]},{name.strip()}"
                )

    def label_of(self, word: object) -> Label:
        """The label that a folder's name means; None if it means none."""
        text = _plain_word(str(word))
        return 0 if text in self.real else 1 if text in self.fake else None

    def label_of_value(self, value: object, *, rest_is_fake: bool) -> Label:
        """The label that the value of a column means: 0 and 1 are labels there, if the user says nothing.

        Args:
            value: of the column.
            rest_is_fake: whether a value that means nothing is the name of a generator.
        """
        found = self.label_of(value)
        if found is None and self == Words():
            found = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}.get(str(value).strip())  # type: ignore[assignment]
        is_rest = found is None and (rest_is_fake or self.real_only) and value not in (None, "")
        return 1 if is_rest else found


def words_of(real: str | None, fake: str | None, label: str | None) -> Words:
    """The words of the options ``--real``, ``--fake`` (several with commas) and ``--label``.

    The words given replace the usual ones of their class.

    Raises:
        UserError: they contradict each other.
    """
    if label is not None and (real or fake):
        raise UserError(f"label={label} is for all images, so real and fake would be ignored; drop one")
    if label is not None:
        return Words(label=0 if label == "real" else 1)
    if not real and not fake:
        return Words()
    reals, fakes = _split(real), _split(fake)
    if both := sorted(reals & fakes):
        raise UserError(f"{both[0]} is among the words of both --real and --fake")
    return Words(
        real=reals or frozenset(REALS) - fakes,
        fake=fakes or frozenset(FAKES) - reals,
        real_only=not fakes,
        given=reals | fakes,
    )


def _split(text: str | None) -> frozenset[str]:
    return frozenset(_plain((text or "").split(",")))


def _plain(words: Iterable[str]) -> Iterable[str]:
    return (_plain_word(word) for word in words if word.strip())


def _plain_word(word: str) -> str:
    return word.strip().casefold()
