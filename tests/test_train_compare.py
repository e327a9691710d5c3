"""Comparing detectors: DeLong by its definition, the bootstrap of both on the same photographs, fusions."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import run
from figure_scores import binormal, drawn_scores, scores_of
from hypothesis import given
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from recon.base.errors import UserError
from train.evaluation.figures.comparison import compare, main, read_detected
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.delong import difference_of_aucs
from train.evaluation.figures.fusion import FUSIONS, Detected, aligned, fuse
from train.evaluation.figures.scores import Scores

RNG = np.random.default_rng(5)


def detected(scores: Scores, name: str = "a", decision: Decision = Decision()) -> Detected:  # noqa: B008
    return Detected(name=name, scores=scores, decision=decision)


def by_definition(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Difference of AUCs and standard error from all comparisons of a fake with a real image."""
    wins = []
    for scores in (first, second):
        gaps = scores[labels == 1][:, None] - scores[labels == 0][None]
        wins.append((gaps > 0) + (gaps == 0) / 2.0)
    apart = wins[1] - wins[0]
    variance = (
        apart.mean(axis=1).var(ddof=1) / apart.shape[0] + apart.mean(axis=0).var(ddof=1) / apart.shape[1]
    )
    return float(apart.mean()), float(np.sqrt(variance))


@given(drawn_scores())
def test_delongs_difference_and_error_are_those_of_all_comparisons(scores: Scores) -> None:
    labels = np.append(scores.labels_N, [0, 1])
    first = np.append(scores.logits_N, [0.0, 0.5])
    second = np.random.default_rng(1).permutation(first)
    found = difference_of_aucs(labels, first, second)
    value, error = by_definition(labels, first, second)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.value == pytest.approx(roc_auc_score(labels, second) - roc_auc_score(labels, first))
    assert found.error == pytest.approx(error, abs=1e-7)
    if found.p is not None:
        assert found.p == pytest.approx(2 * norm.cdf(-abs(value) / error), abs=1e-5)
        assert found.interval == pytest.approx((value - 1.959964 * error, value + 1.959964 * error), abs=1e-6)


def test_detectors_that_rank_alike_have_no_p() -> None:
    found = difference_of_aucs(np.array([0, 1, 0, 1]), np.arange(4.0), np.arange(4.0) * 7 - 3)
    assert (found.value, found.error, found.p) == (0.0, 0.0, None)


def test_both_detectors_are_resampled_alike() -> None:
    """A detector that adds a constant differs in nothing that ranks; one that knows more, surely."""
    scores = binormal(np.random.default_rng(2), photographs=60, gap=0.8)
    moved = scores_of(scores.labels_N, scores.logits_N + 5, photographs=list(scores.photographs))
    better = scores_of(scores.labels_N, scores.logits_N + scores.labels_N * 2)
    same = compare(detected(scores), detected(moved, "b"), resamples=99, seed=0)
    assert (same.differences["auc"], same.intervals["auc"]) == (0.0, (0.0, 0.0))
    found = compare(detected(scores), detected(better, "b"), resamples=99, seed=0)
    low, high = found.intervals["auc"]
    assert 0 < low <= found.differences["auc"] <= high
    assert found.delong is not None
    assert found.delong.value == pytest.approx(found.differences["auc"])


def test_images_come_in_the_order_of_the_first_and_must_be_the_same() -> None:
    scores = scores_of([0, 1, 1], [0.0, 1.0, 2.0])
    turned = scores.chosen(np.array([2, 0, 1]))
    assert aligned([detected(scores), detected(turned, "b")])[1].scores.logits_N.tolist() == [0, 1, 2]
    with pytest.raises(UserError, match=r"b lacks 1 of the 3 images of a, such as '00001' in group 'g'"):
        aligned([detected(scores), detected(turned.chosen(np.array([0, 1])), "b")])
    with pytest.raises(UserError, match="a lacks 1 of the 3 images of b"):
        aligned([detected(scores.chosen(np.array([0, 1]))), detected(turned, "b")])
    other = Scores(**{**vars(scores), "labels_N": np.array([0, 1, 0])})
    with pytest.raises(UserError, match="a and b give 1 images different labels, such as '00002'"):
        aligned([detected(scores), detected(other, "b")])
    grouped = Scores(**{**vars(scores), "groups": ["h"] * 3})
    with pytest.raises(UserError, match=r"a has '0000\d' in group 'g', b in group 'h'; .* --group_by"):
        aligned([detected(scores), detected(grouped, "b")])


def test_fusions_are_those_of_calibrated_logits_and_so_are_their_thresholds() -> None:
    one = detected(scores_of([0, 1], [-1.0, 2.0]), decision=Decision(threshold=0.5))
    two = detected(scores_of([0, 1], [4.0, -2.0]), "b", Decision(temperature=2.0, threshold=3.0))
    found = {how: fuse([one, two], how) for how in FUSIONS}
    assert found["mean"].scores.logits_N.tolist() == [0.5, 0.5]
    assert found["max"].scores.logits_N.tolist() == [2.0, 2.0]
    vote = logit((expit([-1.0, 2.0]) + expit([2.0, -1.0])) / 2)
    assert found["vote"].scores.logits_N == pytest.approx(vote)
    assert (found["mean"].decision.threshold, found["max"].decision.threshold) == (1.0, 1.5)
    assert found["vote"].decision.threshold == pytest.approx(logit((expit(0.5) + expit(1.5)) / 2))
    sure = detected(scores_of([0, 1], [-1e4, 1e4]))
    assert np.isfinite(fuse([sure, sure], "vote").scores.logits_N).all()


def write(folder: Path, scores: Scores, decision: dict[str, object] | None = None) -> str:
    folder.mkdir(parents=True)
    rows = zip(scores.names, scores.groups, scores.labels_N, scores.logits_N, scores.photographs, strict=True)
    lines = ["name,group,label,logit,photograph", *(",".join(map(str, row)) for row in rows)]
    (folder / "scores.csv").write_text("\n".join(lines) + "\n")
    if decision is not None:
        (folder / "metrics.json").write_text(json.dumps({"decision": decision}))
    return str(folder / "scores.csv")


def test_the_command_prints_both_tables_and_writes_a_fusion_that_compares_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = binormal(np.random.default_rng(3), photographs=30, gap=1.0)
    other = scores_of(scores.labels_N, scores.logits_N[::-1] * -1, photographs=list(scores.photographs))
    a = write(tmp_path / "a", scores, {"temperature": 2.0, "threshold": 0.25, "origin": "x"})
    b, out = write(tmp_path / "b", other), tmp_path / "out"
    assert run(monkeypatch, main, a, b, "--out", str(out), "--fused", "vote", "--resamples", "40") == 0
    text = capsys.readouterr().out
    assert text == (out / "compare.md").read_text()
    first, second = text.split("| less the first |")
    assert [line.split(" | ")[0].strip("| ") for line in first.splitlines()[2:7]] == [
        a.replace("_", r"\_"), b.replace("_", r"\_"), "mean of all", "max of all", "vote of all",
    ]  # fmt: skip
    assert second.count("[") >= 4 * 8
    values = json.loads((out / "compare.json").read_text())
    assert [one["name"] for one in values] == [b, "mean of all", "max of all", "vote of all"]
    assert read_detected(a).decision.temperature == 2.0
    again = read_detected(str(out))
    expected = fuse(aligned([read_detected(a), read_detected(b)]), "vote")
    np.testing.assert_array_equal(again.scores.logits_N, expected.scores.logits_N)
    assert again.decision == expected.decision


def test_a_fusion_of_images_whose_names_are_not_utf_8_is_written_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, out = write(tmp_path / "a", scores_of([0, 1], [0.0, 1.0])), tmp_path / "out"
    file = Path(place)
    file.write_bytes(file.read_bytes().replace(b"00001", b"caf\xe9"))
    assert run(monkeypatch, main, place, place, "--out", out, "--fused", "mean", "--resamples", "5") == 0
    assert (out / "scores.csv").read_bytes() == file.read_bytes()


def test_one_class_gives_dashes_and_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [write(tmp_path / name, scores_of([1, 1, 1], [0.0, 1.0, -1.0])) for name in "ab"]
    assert run(monkeypatch, main, *places) == 0
    text = capsys.readouterr().out
    assert "No auc: no real images." in text
    assert "No DeLong test: it needs two images of each class." in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["A"], "a comparison needs two files of scores or more, found one"),
        (["A", "gone"], "gone/scores.csv not found"),
        (["A", "A", "--fused", "vote"], "fused=vote needs --out"),
        (["A", "A", "--fused", "median", "--out", "o"], "fused=median, expected one of mean, max, vote"),
        (["A", "A", "--fused", "mean", "--out", "FOLDER"], "whose files it would replace"),
        (["A", "A", "--seed", "-1"], "seed=-1, expected 0 or more"),
        (["A", "NAN"], "line 2: logit 'nan', expected a finite number"),
        (["A", "OLD"], "metrics.json has no decision"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    complaint: str,
) -> None:
    places = {"A": write(tmp_path / "a", scores_of([0, 1], [0.0, 1.0]))}
    (tmp_path / "nan.csv").write_text("name,group,label,logit\na,g,1,nan\n")
    places |= {"NAN": str(tmp_path / "nan.csv"), "OLD": write(tmp_path / "old", scores_of([0], [0.0]))}
    places["FOLDER"] = str(tmp_path / "x/../a")
    (tmp_path / "old/metrics.json").write_text("{}")
    assert run(monkeypatch, main, *(places.get(word, word) for word in words)) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert "Traceback" not in error
