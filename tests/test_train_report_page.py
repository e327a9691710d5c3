"""The page of a report: it needs nothing else, shows what the evaluation says, and takes any names."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_folders import LINES, VAL, Page, report, scored_of, write_evaluation, write_run
from scored_images import pixels, png, put, save_untrained
from test_train_figures_table import rows_of

from pack.storage import open_store
from recon.image.codec import decode_rgb
from train.evaluation.evaluate import EvaluateConfig, evaluate
from train.evaluation.figures.decision import Decision
from train.evaluation.results import ScoredImage
from train.reports.command import ReportConfig, contents_of
from train.reports.page import as_html
from train.reports.style import STYLE

ODD = ("<script>alert(1)<", "all images", "mean of groups", "$x^$", "_Grüße & <b>", "caf\udce9")
OURS = {
    *("html", "head", "meta", "link", "title", "style", "body", "main", "header", "section", "div", "span"),
    *("h1", "h2", "h3", "p", "dl", "dt", "dd", "ul", "li", "strong", "br", "details", "summary"),
    *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"),
    *("svg", "g", "path", "text", "defs", "use", "clippath", "rect"),
}


def write_photographs(root: Path, groups: tuple[str, ...]) -> Path:
    """A run, and a photograph and its fake in each group."""
    write_run(root / "run")
    for number, group in enumerate(groups):
        for half in (0, 1):
            name = f"{('0_real', '1_fake')[half]}/<img src=x onerror=alert(1)>{number}.png"
            put(root / "data" / group / name, png(2 * number + half, (16, 24)))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_photographs(tmp_path, ("a", "b", "c"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on photographs and groups of odd names; to be read only."""
    root = write_photographs(tmp_path_factory.mktemp("odd"), ODD)
    evaluated(root)
    put(root / "curves/curves-jpeg.png", png(1))
    put(root / "curves/robustness.json", b"{}")
    put(root / "pairs.png", png(2))
    pictures = {"preview": root / "pairs.png", "robustness": root / "curves"}
    with pytest.MonkeyPatch.context() as patch:
        assert report(patch, root, title="<i>&", note="<script>note", **pictures) == 0
    return root


@pytest.fixture(scope="module")
def odd_page(odd: Path) -> Page:
    return Page((odd / "out/report.html").read_text("utf-8"))


def page_of(folder: Path, **changes: Any) -> Page:
    """The page on ``run`` and ``eval`` of a folder, as the command would write it."""
    places = {"run": str(folder / "run"), "evaluation": str(folder / "eval")}
    return Page(as_html(contents_of(ReportConfig(**(places | changes)))))


def evaluated(folder: Path, seed: int = 0, **options: Any) -> list[ScoredImage]:
    """Writes an evaluation of the folder's photographs with random scores."""
    logits = np.random.default_rng(seed).normal(0, 2, 100).tolist()
    scored, facts = scored_of(folder / "data", logits.__getitem__, **options)
    write_evaluation(folder / "eval", scored, **facts)
    return scored


def test_the_page_holds_all_it_shows_and_has_no_script(odd_page: Page) -> None:
    assert {tag for tag, _ in odd_page.elements} <= OURS
    named = [(name, value) for _, found in odd_page.elements for name, value in found.items()]
    links = [value for name, value in named if name in ("src", "href", "xlink:href", "srcset")]
    assert links
    assert [link[:40] for link in links if not link.startswith(("data:", "#"))] == []
    assert not [name for name, _ in named if name.startswith("on")]
    assert all(target.startswith("#") for _, value in named for target in re.findall(r"url\(([^)]*)", value))
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    identities = [value for name, value in named if name == "id"]
    assert len(set(identities)) == len(identities) > 0


def test_every_picture_has_a_text_in_its_place(odd_page: Page) -> None:
    assert len(odd_page.all("img")) > 2
    assert all(found["alt"] for found in odd_page.all("img"))
    assert all(found["role"] == "img" and found["aria-label"] for found in odd_page.all("svg"))


def test_names_of_files_and_groups_are_text_whatever_they_hold(odd_page: Page) -> None:
    names = (*ODD[:-1], r"caf\xe9", "<i>&", "<script>note", "<img src=x onerror=alert(1)>")
    assert [name for name in names if name not in odd_page.text] == []


def test_the_tables_say_what_the_markdown_says(odd: Path, odd_page: Page) -> None:
    plain = [
        [re.sub(r"\\(.)", r"\1", cell).strip("*") for cell in row]
        for row in rows_of((odd / "eval/table.md").read_text("utf-8"))
    ]
    assert [row for row in odd_page.rows if row[0] != "group"] == plain
    assert len(plain) == 3 * (len(ODD) + 4)
    ours = [found for found in odd_page.all("tr") if found.get("class") == "ours"]
    assert len(ours) == 3 * 4  # and no group that is called so


def test_the_worst_mistakes_are_shown_first_with_the_pixels_that_were_scored(folder: Path) -> None:
    logits = [3.0, 0.25, 0.25, 9.0, 1.0, -2.0]  # real and fake by turns; the third and the fourth are right
    scored, facts = scored_of(folder / "data", logits.__getitem__, crop=12)
    write_evaluation(folder / "eval", scored, Decision(threshold=0.25, temperature=2.0), **facts)
    page = page_of(folder, mistakes=2)
    reals = sorted((one for one in scored if one.label == 0 and one.logit > 0.25), key=lambda one: -one.logit)
    fakes = sorted((one for one in scored if one.label == 1 and one.logit <= 0.25), key=lambda one: one.logit)
    assert "Real images taken for fakes: 2 of 3" in page.text
    assert "Fakes taken for real: 2 of 3" in page.text
    worst = [*reals[:2], *fakes[:2]]
    assert [found["alt"] for found in page.all("img")] == [
        f"{('real image', 'fake')[one.label or 0]} {one.name}" for one in worst
    ]
    for one, found in zip(worst, page.all("img"), strict=True):
        shown = decode_rgb(base64.b64decode(found["src"].partition(",")[2]))
        whole = decode_rgb((folder / "data" / one.name).read_bytes())
        assert np.array_equal(shown, whole[2:14, 6:18])
        assert f"{1 / (1 + np.exp(-one.logit / 2)):.1%} fake, logit {one.logit:.2f}" in page.text


def test_large_images_are_scaled_down_and_small_ones_kept(folder: Path) -> None:
    put(folder / "data/a/0_real/large.png", png(3, (40, 600)))
    scored, facts = scored_of(folder / "data", lambda _: 1.0)
    write_evaluation(folder / "eval", scored, **facts)
    page = page_of(folder)
    shown = [decode_rgb(base64.b64decode(found["src"].partition(",")[2])) for found in page.all("img")]
    assert sorted(one.shape[:2] for one in shown) == [(16, 24)] * 3 + [(17, 256)]


def test_an_evaluation_writes_down_how_its_images_are_found_again(folder: Path) -> None:
    for number in range(2):
        put(folder / f"mine/photos/{number}.png", png(number))
        put(folder / f"mine/flux/{number}.png", png(number + 5))
    checkpoint = save_untrained(folder / "best.pt")
    options = {"checkpoint": checkpoint, "data": str(folder / "mine"), "out": str(folder / "eval")}
    evaluate(EvaluateConfig(**options, real="photos", fake="flux", device="cpu", threshold=0.999))
    page = page_of(folder)
    shown = [decode_rgb(base64.b64decode(found["src"].partition(",")[2])) for found in page.all("img")]
    assert sorted(one.tobytes() for one in shown) == sorted(pixels(seed).tobytes() for seed in (5, 6))


def test_data_that_are_gone_are_told_and_the_rest_is_shown(folder: Path) -> None:
    evaluated(folder)
    (folder / "data").rename(folder / "moved")
    page = page_of(folder)
    assert page.all("img") == []
    assert f"the data can't be read: data={folder / 'data'}: found nothing" in page.text
    assert len(page.all("svg")) == 2 + 3 + 2


def test_an_image_that_is_gone_or_broken_is_told_in_its_place(folder: Path) -> None:
    scored, facts = scored_of(folder / "data", lambda _: 1.0)
    write_evaluation(folder / "eval", scored, **facts)
    names = [one.name for one in scored if one.label == 0]
    (folder / "data" / names[0]).unlink()
    (folder / "data" / names[1]).write_bytes(b"no image")
    page = page_of(folder)
    assert len(page.all("img")) == 1
    assert page.text.count("it was not found in the data") == 1
    assert page.text.count("not a readable image") == 1


def test_without_mistakes_wanted_the_data_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated(folder)
    with monkeypatch.context() as patch:
        patch.setattr("train.reports.inputs.mistakes.source_of", None)
        page = page_of(folder, mistakes=0)
    assert "not asked for (--mistakes 0)" in page.text


def plain_scores(labels: list[int | None], logits: list[float], groups: list[str]) -> list[ScoredImage]:
    return [
        ScoredImage(name=f"{place}", group=group, label=label, logit=logit, photograph=f"{place}")
        for place, (label, logit, group) in enumerate(zip(labels, logits, groups, strict=True))
    ]


@pytest.mark.parametrize(
    ("labels", "logits", "groups", "told", "svgs"),
    [
        ([0, 0, 0], [0.0, 1.0, 2.0], "aab", ["no curves: there are no fakes", "there are no fakes"], 4),
        ([1, 1], [0.0, 1.0], "ab", ["no curves: there are no real images"], 4),
        ([None, None], [0.0, 1.0], "ab", ["no image has a label", "holds no score with a label"], 2),
        ([0, 1], [1.5, 1.5], "aa", ["AUC 0.500"], 5),
        ([0, 1, 1], [1.0, 2.0, 3.0], "aab", ["no curve of b: there are no real images", "AUC 1.000"], 6),
        ([0, 0, 1], [1.0, 2.0, 3.0], ["", "", "a"], ["AUC 1.000"], 5),
        ([0], [1.0], [""], ["no image belongs to a label group"], 2),
    ],
)
def test_what_cannot_be_had_is_a_dash_with_its_reason(
    tmp_path: Path,
    labels: list[int | None],
    logits: list[float],
    groups: list[str],
    told: list[str],
    svgs: int,
) -> None:
    write_run(tmp_path / "run")
    write_evaluation(tmp_path / "eval", plain_scores(labels, logits, list(groups)))
    page = page_of(tmp_path)
    assert all(one in page.text for one in told), page.text
    assert len(page.all("svg")) == svgs


def test_a_run_without_validation_says_so(folder: Path) -> None:
    evaluated(folder)
    write_run(folder / "run", LINES[:1])
    assert "the run has logged no validation" in page_of(folder).text


def test_an_evaluation_of_an_earlier_version_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    row = VAL | {"accuracy": 0.75, "real_accuracy": 0.5, "fake_accuracy": 1.0, "n_real": 2, "n_fake": 2}
    facts = {"backbone": "highpass", "checkpoint": "best.pt", "data": "gone", "crop": None, "images": 4}
    put(tmp_path / "eval/metrics.json", json.dumps(facts | {"overall": row, "groups": {"g": row}}).encode())
    put(tmp_path / "eval/table.md", b"| group |\n")
    scores = "g/0_real/a.png,g,0,-1\ng/1_fake/a.png,g,1,1\ng/0_real/b.png,g,0,1\ng/1_fake/b.png,g,1,2\n"
    put(tmp_path / "eval/scores.csv", b"name,group,label,logit\n" + scores.encode())
    page = page_of(tmp_path)
    assert ["g", "0.900", "0.900"] == page.rows[1][:3]
    assert "EER, NLL, Brier, ECE" in page.text.replace("accuracy at the best threshold (oracle), ", "")
    assert "this evaluation is of an earlier version" in page.text
    assert "2, from which these images come" in page.text


def test_scores_that_are_gone_are_told(folder: Path) -> None:
    evaluated(folder)
    (folder / "eval/scores.csv").unlink()
    assert "scores.csv not found" in page_of(folder).text


def test_equal_inputs_give_equal_pages(folder: Path) -> None:
    evaluated(folder)
    config = ReportConfig(run=str(folder / "run"), evaluation=str(folder / "eval"))
    assert as_html(contents_of(config)) == as_html(contents_of(config))


def test_of_many_groups_the_worst_are_drawn_and_the_page_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    groups = [f"group {number:02}" for number in range(14) for _ in range(4)]
    logits = [value for number in range(14) for value in (0.0, 2.0, 1.0, 3.0 if number < 3 else 1.5)]
    logits[:12] = [-1.0, -2.0, 3.0, 4.0] * 3  # the first three groups have no error
    write_evaluation(tmp_path / "eval", plain_scores([0, 0, 1, 1] * 14, logits, groups))
    page = page_of(tmp_path)
    assert "The 11 groups of lowest AUC are shown, 3 others are not." in page.text
    assert sum(found["aria-label"].startswith("Scores of") for found in page.all("svg")) == 11
    assert not any(found["aria-label"].endswith("group 02") for found in page.all("svg"))


def test_curves_of_robustness_are_shown_and_a_folder_without_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(folder)
    for name in ("curves-jpeg.png", "curves-blur.png", "curves.png", "photo.png"):
        put(folder / "grid" / name, png(1))
    put(folder / "grid/robustness.json", b"{}")
    assert report(monkeypatch, folder, robustness=folder / "grid", mistakes=0) == 0
    page = Page((folder / "out/report.html").read_text("utf-8"))
    assert [found["alt"] for found in page.all("img")] == ["blur", "jpeg", "other cells"]
    text = (folder / "out/report.md").read_text("utf-8")
    assert "![Robustness: jpeg](../grid/curves-jpeg.png)" in text
    assert "![Robustness: other cells](../grid/curves.png)" in text
    put(folder / "photos/curves.png", png(1))
    assert report(monkeypatch, folder, robustness=folder / "photos") == 2
    assert "found no robustness.json; expected a folder of python -m train" in capsys.readouterr().err
    put(folder / "single/robustness.json", b"{}")
    put(folder / "single/photo.png", png(1))
    assert report(monkeypatch, folder, robustness=folder / "single") == 2
    assert "found no curves*.png" in capsys.readouterr().err


def test_a_run_and_its_evaluation_may_lie_at_urls(folder: Path) -> None:
    evaluated(folder)
    places = {name: f"file://{folder / name}" for name in ("run", "eval")}
    assert open_store(places["run"]).exists("metrics.jsonl")
    page_of(folder, run=places["run"], evaluation=places["eval"])
