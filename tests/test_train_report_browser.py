"""The page of a report in a browser: no error, nothing covered, nothing wider than the window.

Debian's chromium opens it, where it is installed (``apt-get install chromium``).
"""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_folders import report, scored_of, write_evaluation, write_run
from scored_images import png, put

LONG = "a_name_without_a_space_that_is_longer_than_the_window_of_a_telephone_" * 2
GROUPS = ("flux", LONG, "all images", "<script>alert(1)<")
MEASURE = """<script>
const boxes = elements => [...elements].map(one => one.getBoundingClientRect());
const covers = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
  && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
const named = one => `${one.tagName}.${one.className} ${one.textContent.slice(0, 40)}`;
const covered = [], wide = [];
const parents = "main, section, header, dl, figure, ul, .cards, .plots, .small, .thumbs";
for (const parent of document.querySelectorAll(parents)) {
  const children = [...parent.children], found = boxes(children);
  for (let i = 0; i < found.length; i++)
    for (let j = 0; j < i; j++)
      if (covers(found[i], found[j])) covered.push([named(children[j]), named(children[i])]);
}
for (const one of document.querySelectorAll("body, body *")) {
  if (one.closest(".scrolls > *") || one.closest("svg > *")) continue;
  const box = one.getBoundingClientRect();
  if (box.right > innerWidth + 1 || box.left < -1) wide.push(named(one));
}
const pictures = [...document.images].filter(one => !one.naturalWidth).length;
const cut = [...document.querySelectorAll(".scrolls")].filter(one => one.scrollWidth > one.clientWidth);
const shaded = cut.filter(one => getComputedStyle(one).backgroundAttachment === "local, scroll").length;
const found = {cut: cut.length, shaded, width: innerWidth,
  scrolls: document.documentElement.scrollWidth, covered, wide, pictures,
  sections: document.querySelectorAll("main > *").length};
parent.postMessage(JSON.stringify(found), "*");
</script>"""
FRAME = """<body style="margin: 0">
<script>onmessage = found => {{ document.body.dataset.found = found.data; }};</script>
<iframe src="{page}" width="{width}" height="900" style="border: 0"></iframe>
</body>"""  # a window of chromium can't be as narrow as a telephone
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything that a report can show, and long names."""
    root = tmp_path_factory.mktemp("browser")
    write_run(root / "run")
    for number, group in enumerate(GROUPS):
        for half in (0, 1):
            name = f"{('0_real', '1_fake')[half]}/{LONG}{number}.png"
            put(root / "data" / group / name, png(2 * number + half, (16, 24)))
    logits = np.random.default_rng(0).normal(0, 2, 8).tolist()
    scored, facts = scored_of(root / "data", logits.__getitem__)
    write_evaluation(root / "eval", scored, **facts)
    put(root / "curves/curves-jpeg.png", png(1, (300, 1400)))
    put(root / "curves/robustness.json", b"{}")
    put(root / "pairs.png", png(2, (100, 2000)))
    more = {"preview": root / "pairs.png", "robustness": root / "curves", "title": LONG, "note": LONG}
    with pytest.MonkeyPatch.context() as patch:
        assert report(patch, root, **more) == 0
    return root / "out/report.html"


def opened(page: Path, width: int, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What the script above measures, and the lines of the console, of a copy of the page."""
    assert CHROMIUM
    copy, frame = folder / "copy.html", folder / "frame.html"
    copy.write_text(page.read_text("utf-8").replace("</body>", f"{MEASURE}</body>"), "utf-8")
    frame.write_text(FRAME.format(page=copy.as_uri(), width=width), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    options += ["--enable-logging=stderr", "--dump-dom", f"--user-data-dir={folder / 'profile'}"]
    # Virtual time: the DOM is printed when nothing is left to do, however busy the machine is.
    options += ["--virtual-time-budget=5000", "--window-size=1300,900", frame.as_uri()]
    ended = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, check=True, timeout=300)
    found = re.search(r'data-found="([^"]*)"', ended.stdout)
    assert found, ended.stdout[-2000:] + ended.stderr[-2000:]
    console = [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), console


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt-get install chromium")
@pytest.mark.parametrize(("width", "cut"), [(1280, 0), (400, 3)])
def test_a_browser_shows_the_page_without_an_error_and_nothing_overlaps(
    page: Path, tmp_path: Path, width: int, cut: int
) -> None:
    found, console = opened(page, width, tmp_path)
    assert console == []
    assert found == {
        "cut": cut,  # tables that scroll
        "shaded": cut,  # and show that they do
        "width": width,
        "scrolls": width,
        "covered": [],
        "wide": [],
        "pictures": 0,  # that did not load
        "sections": 9,
    }


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt-get install chromium")
def test_the_test_would_see_an_error_an_overlap_and_what_is_too_wide(page: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    spoiled = "<style>section { margin-bottom: -60px } h1 { width: 2000px }</style><img src='gone.png'>"
    bad.write_text(
        page.read_text("utf-8").replace("</main>", f"</main>{spoiled}<script>gone()</script>"), "utf-8"
    )
    found, console = opened(bad, 1280, tmp_path)
    assert any("gone is not defined" in line for line in console)
    assert found["covered"]
    assert found["wide"]
    assert found["pictures"] == 1
