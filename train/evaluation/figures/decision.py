"""When an image counts as fake: a temperature and a threshold, given, or chosen on a validation set."""

import logging
import math
import re
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from recon.base.errors import UserError
from train.evaluation.figures.scores import Scores, read_scores

_LOG = logging.getLogger(__name__)
_FORMS = "a probability between 0 and 1, 'from SCORES at fpr=.01', or 'from SCORES balanced'"
_FROM = re.compile(r"from\s+(?P<place>.+?)\s+(?:at\s+)?(?P<rule>fpr=\S+|balanced)")
_LOG_T = (math.log(0.01), math.log(100.0))  # logits of trained detectors need .5 to 5


class NoTemperatureError(UserError):
    """No temperature is better than all others."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How a logit becomes a probability and a verdict."""

    temperature: float = 1.0
    """The probability of fake is sigmoid(logit / temperature)."""
    threshold: float = 0.0
    """An image counts as fake if its logit is above this."""
    origin: str = "as trained"
    """Where the threshold comes from, for people."""

    def __post_init__(self) -> None:
        """Checks that both are numbers that decide: files of users hold them."""
        numbers = (self.temperature, self.threshold)
        if not all(isinstance(one, int | float) and math.isfinite(one) for one in numbers) or numbers[0] <= 0:
            raise UserError(
                f"temperature {self.temperature}, threshold {self.threshold}; expected finite numbers, and a "
                "temperature above 0"
            )

    @property
    def probability(self) -> float:
        """The probability of fake at the threshold."""
        return float(expit(self.threshold / self.temperature))


def scores_in(text: str | float) -> str | None:
    """The file or folder of scores that ``--threshold`` names; None for a number."""
    found = _FROM.fullmatch(str(text).strip())
    return found["place"] if found else None


def decide(text: str | float, base: Decision) -> Decision:
    """The decision that ``--threshold`` asks for.

    Args:
        text: a probability, or where to choose a threshold and by which rule, see `choose_threshold`.
        base: gives the temperature.

    Raises:
        UserError: the text has another form, the scores can't be read, or no threshold follows from them.
    """
    if found := _FROM.fullmatch(str(text).strip()):
        scores = read_scores(found["place"])
        threshold = choose_threshold(found["rule"], scores)
        return replace(base, threshold=threshold, origin=f"{found['rule']} in {found['place']}")
    try:
        probability = float(text)
    except ValueError:
        probability = math.nan
    if not 0 < probability < 1:
        raise UserError(f"threshold={text}: expected {_FORMS}")
    threshold = base.temperature * float(logit(probability))
    return replace(base, threshold=threshold, origin=f"probability {probability:g}")


def choose_threshold(rule: str, scores: Scores) -> float:
    """Chooses the logit above which an image counts as fake.

    Real images too few for a false-positive rate are warned of: one false alarm of 50 is already 2 %.

    Args:
        rule: ``fpr=SHARE``: the lowest threshold that takes at most this share of the real images for fakes.
            ``balanced``: the threshold of the highest balanced accuracy, in the middle between two scores;
            among equals the one nearest to 0.
        scores: of a validation set.

    Raises:
        UserError: the rule is unknown, or a class that it needs is missing, or all scores are equal.
    """
    rate = rate_of(rule)
    return _balanced(scores) if rate is None else _at_false_alarms(rate, scores)


def rate_of(rule: str) -> float | None:
    """The false-positive rate that a rule names; None for the rule ``balanced``.

    Raises:
        UserError: the rule is unknown, or its rate is no share.
    """
    if rule == "balanced":
        return None
    name, _, share = rule.partition("=")
    if name != "fpr":
        raise UserError(f"rule {rule!r}, expected fpr=SHARE (such as fpr=.01) or balanced")
    try:
        rate = float(share)
    except ValueError:
        rate = math.nan
    if not 0 <= rate < 1:
        raise UserError(f"fpr={share}, expected a share of the real images such as .01")
    return rate


def fit_temperature(scores: Scores) -> float:
    """The temperature with the least log loss of sigmoid(logit / temperature), between .01 and 100.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Raises:
        UserError: a class is missing.
        NoTemperatureError: the scores separate the classes without an error, or tell nothing about them.
    """
    _both_classes(scores)
    signs_N = np.where(scores.labels_N == 1, 1.0, -1.0)

    def loss(log_t: float) -> float:
        return float(np.logaddexp(0.0, -signs_N * scores.logits_N / math.exp(log_t)).mean())

    best = float(minimize_scalar(loss, bounds=_LOG_T, method="bounded", options={"xatol": 1e-8}).x)
    if min(best - _LOG_T[0], _LOG_T[1] - best) < 1e-3:
        why = "separate the classes without an error" if best < 0 else "tell nothing about the classes"
        raise NoTemperatureError(f"no temperature between .01 and 100 is best, because the scores {why}")
    return math.exp(best)


def _at_false_alarms(rate: float, scores: Scores) -> float:
    reals_R = np.sort(scores.logits_N[scores.labels_N == 0])[::-1]
    if not len(reals_R):
        raise UserError("a threshold at a false-positive rate needs real images, and there are none")
    # At most `allowed` scores lie above the one at this place. The small number: .29 * 100 is 28.999... .
    allowed = math.floor(rate * len(reals_R) + 1e-9)
    if not allowed and rate:
        _LOG.warning(
            "fpr=%g allows no false alarm among %d real images: the threshold is their highest score; "
            "%d or more would be needed",
            rate,
            len(reals_R),
            math.ceil(1 / rate - 1e-9),
        )
    return float(reals_R[allowed])


def _balanced(scores: Scores) -> float:
    _both_classes(scores)
    values_K = np.unique(scores.logits_N)
    if len(values_K) == 1:
        raise UserError("all scores are equal, so no threshold separates real images and fakes")
    between_K = (values_K[1:] + values_K[:-1]) / 2
    reals_R = np.sort(scores.logits_N[scores.labels_N == 0])
    fakes_F = np.sort(scores.logits_N[scores.labels_N == 1])
    real_K = np.searchsorted(reals_R, between_K) / len(reals_R)
    fake_K = 1 - np.searchsorted(fakes_F, between_K) / len(fakes_F)
    balanced_K = real_K + fake_K
    best_B = between_K[balanced_K >= balanced_K.max() - 1e-12]
    return float(best_B[np.abs(best_B).argmin()])


def _both_classes(scores: Scores) -> None:
    for label, name in ((0, "real images"), (1, "fakes")):
        if not (scores.labels_N == label).any():
            raise UserError(f"a calibration needs both classes, and there are no {name}")
