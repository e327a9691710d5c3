"""The table of an evaluation, and the file of scores that others read."""

import json
from pathlib import Path

import numpy as np
import pytest
from figure_scores import scores_of

from recon.base.errors import UserError
from train.evaluation.figures.bootstrap import Bootstrap
from train.evaluation.figures.decision import Decision
from train.evaluation.figures.figures import FIGURES
from train.evaluation.figures.scores import read_scores
from train.evaluation.figures.table import DASH, Report, report_of

LABELS, LOGITS = [0, 1, 1, 1, 1], [-2.0, 0.5, -1.0, 3.0, 0.0]


def report(groups: list[str], bootstrap: Bootstrap | None = None) -> Report:
    return report_of(scores_of(LABELS, LOGITS, groups), Decision(), bootstrap)


def rows_of(text: str) -> list[list[str]]:
    """The cells of all rows of figures, without the heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[part.strip() for part in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] not in ("group", "---")]


def test_each_table_has_a_row_a_group_and_a_dash_for_what_is_missing() -> None:
    text = report(["a|b", "a|b", "c", "c", "c"]).markdown()
    ranking = rows_of(text)[:6]
    assert ranking[0] == [r"a\|b", "1.000", "1.000", "100.0%", "100.0%", "100.0%", "0.0%", "1", "1"]
    assert ranking[1] == ["c", *[DASH] * 6, "0", "3"]
    assert [row[0] for row in ranking[2:]] == [
        "**all images**", "**mean of groups**", "**standard deviation of groups**", "**worst group**",
    ]  # fmt: skip
    assert ranking[3][1:3] == ["1.000", "1.000"]
    assert ranking[4][1:] == [DASH] * 6 + ["", ""]
    assert ranking[5][1] == r"1.000 a\|b"
    assert len(rows_of(text)) == 18
    assert f"- {DASH} AUC, AP, TPR at 1 % FPR" in text
    assert text.count("of c: no real images.") == 1


def test_few_real_images_are_named_where_no_false_alarm_is_allowed() -> None:
    scores = scores_of([0] * 20 + [1] * 2, np.arange(22.0), ["a"] * 5 + ["b"] * 15 + ["a", "b"])
    text = report_of(scores, Decision()).markdown()
    assert "- TPR at 1 % FPR of a, b, all images: fewer than 100 real images, so that no false alarm" in text
    assert "- TPR at 5 % FPR of a, b: fewer than 20 real images" in text
    assert "- Pd at 10 % FAR of a: fewer than 10 real images" in text


def test_every_figure_has_its_column_once_and_the_oracle_says_so() -> None:
    text = report(["g"] * 5).markdown()
    heads = [line for line in text.splitlines() if line.startswith("| group |")]
    for one in FIGURES.values():
        assert sum(f"| {one.title} |" in line for line in heads) == 1, one.title
    assert "accuracy at the best threshold (oracle): the threshold is chosen on these very images" in text


def test_a_group_called_like_our_own_rows_is_not_taken_for_one() -> None:
    names = ["overall", "all images", "**all images**", "worst group", "[x](y)"]
    found = [row[0] for row in rows_of(report(names).markdown())[:9]]
    assert sorted(found[:5]) == sorted(
        ["overall", "all images", r"\*\*all images\*\*", "worst group", r"\[x](y)"]
    )
    assert found[5] == "**all images**"
    values = report(names).values()
    assert set(values["groups"]) == set(names)
    assert values["overall"]["n_fake"] == 4


def test_intervals_stand_in_brackets_and_the_notes_name_seed_and_level() -> None:
    scores = scores_of([0, 0, 1, 1], [0.0, 1.0, 0.5, 2.0])
    text = report_of(scores, Decision(threshold=0.25), Bootstrap(resamples=40, seed=9)).markdown()
    assert "| g | 0.750 [" in text
    assert "95 % intervals of 40 bootstrap resamples by photograph, seed 9" in text
    assert "logit is above 0.25, that is, its probability is above 0.5622" in text


def test_the_values_are_json_and_hold_intervals_and_reasons() -> None:
    values = json.loads(json.dumps(report(["a", "a", "b", "b", "b"], Bootstrap(resamples=20)).values()))
    assert values["groups"]["b"]["missing"]["auc"] == "no real images"
    assert values["groups"]["b"]["auc"] is None
    low, high = values["groups"]["b"]["intervals"]["fake_accuracy"]
    assert 0 <= low <= values["groups"]["b"]["fake_accuracy"] <= high <= 1
    assert values["over_groups"]["worst"]["fake_accuracy"] == ["b", pytest.approx(1 / 3)]
    assert values["decision"] == {"temperature": 1.0, "threshold": 0.0, "origin": "as trained"}
    assert values["bootstrap"] == {"resamples": 20, "seed": 0}


def test_scores_are_read_with_or_without_the_column_of_photographs(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("name,group,label,logit\ng/0_real/a.png,g,0,-1.25\ng/1_fake/a.jpg,g,1,3e-2\n")
    found = read_scores(str(tmp_path))
    assert (found.photographs, found.logits_N.tolist()) == (("a", "a"), [-1.25, 0.03])
    path.write_text("name,group,label,logit,photograph\na,,0,1,x\nb,g,1,2,\n", encoding="utf-8-sig")
    found = read_scores(str(path))
    assert (found.photographs, found.groups) == (("x", "b"), ("", "g"))
    np.testing.assert_array_equal(found.labels_N, [0, 1])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name,label\n", "expected the columns name,group,label,logit, found name,label"),
        ("name,group,label,logit\n", "holds no score"),
        ("name,group,label,logit\na,g,2,0\n", "line 2: label '2', expected 0 (real) or 1 (fake)"),
        ("name,group,label,logit\na,g,1,nan\n", "line 2: logit 'nan', expected a finite number"),
        ("name,group,label,logit\na,g,1\n", "line 2: logit None, expected a finite number"),
        ("name,group,label,logit,logit\na,g,1,0,1\n", "has several columns logit, expected one"),
        ("name,group,label,logit\na,g,1,0,b\n", "line 2 has more cells than there are columns"),
        ("name,group,label,logit\na,g,1,0\na,g,0,0\n", "2 rows are called 'a' in group 'g', expected one"),
        (b"\xff\xfe", "expected the columns name,group,label,logit, found \\xff\\xfe"),
    ],
)
def test_a_damaged_file_of_scores_is_refused_in_one_line(
    tmp_path: Path, text: str | bytes, complaint: str
) -> None:
    (tmp_path / "scores.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        read_scores(str(tmp_path))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()  # it can be printed
