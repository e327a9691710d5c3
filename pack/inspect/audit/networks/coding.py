"""A small network that tries to tell the halves of control pairs apart: ``python -m pack.audit --probe net``.

The statistics of the audit see what they were made for; a network may find what nobody thought of. Its pairs,
made by `pack.inspect.audit.networks.control`, differ in nothing that a detector should learn, so whatever it
finds is a leak. It is small and sees few pairs: a larger detector may find more.

Shapes: N pairs, 2 halves (real, fake), 3 channels, S pixels.
"""

import numpy as np

from pack.inspect.audit.judge.nuisances import Finding
from pack.inspect.audit.judge.separation import Separation, area
from pack.inspect.audit.networks.network import STEPS, are_enough, cross_validated, scored
from pack.inspect.audit.networks.pairs import Windows


def judge_net(pairs: Windows, bound: float, *, steps: int = STEPS, seed: int = 0) -> Finding:
    """Trains the networks and says what they found; shows the progress.

    Args:
        pairs: the control pairs.
        bound: the largest area under the ROC curve that is no leak.
        steps: training steps of each network.
        seed: of weights and batches; with equal seeds and threads the result is the same.
    """
    found = net_probe(pairs, steps=steps, seed=seed)
    verdict = "too few" if found is None else "LEAK" if found.low > bound else "ok"
    return Finding(
        name="net",
        real="coding alone",
        fake="",
        verdict=verdict,
        separation=found,
        by="" if found is None else "images",
        bound=bound,
        advice=f"{_advice(found, verdict)} ({pairs.describe('control pair')})",
    )


def _advice(found: Separation | None, verdict: str) -> str:
    if found is None:
        return "a network needs control pairs of more photographs"
    if verdict == "LEAK":
        return (
            "a small network tells the halves of control pairs apart, where no decoder's trace can help it; "
            "code both halves alike (--codec match or both), or pack photographs that are no JPEG"
        )
    if found.low == found.high:
        return "the halves of all control pairs are equal: their coding gives nothing away, to any detector"
    return "a small network finds no more than this in the coding; a larger one may find more"


def net_probe(pairs: Windows, *, steps: int = STEPS, seed: int = 0) -> Separation | None:
    """The area under the ROC curve of networks that have not seen the photographs, see `judge_net`.

    Returns:
        The area with its 95 % interval by photograph; None if there are too few photographs for the folds.
    """
    photograph_N = pairs.photographs()
    if not are_enough(photograph_N):
        return None
    pairs_N23SS = np.stack(pairs.windows)
    if np.array_equal(pairs_N23SS[:, 0], pairs_N23SS[:, 1]):  # no training finds anything
        return Separation(value=0.5, low=0.5, high=0.5)
    logit_N2 = np.zeros(pairs_N23SS.shape[:2])
    for unseen_N, net in cross_validated(pairs_N23SS, photograph_N, steps, what="probe net", seed=seed):
        logit_N2[unseen_N] = scored(net, pairs_N23SS[unseen_N])
    return area(logit_N2[:, 0], logit_N2[:, 1], 0.0, photograph_N)
