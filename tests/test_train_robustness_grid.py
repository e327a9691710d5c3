"""Grids in YAML: which cells they have, and what is said of a mistake in one line."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from conftest import python
from hypothesis import given
from hypothesis import strategies as st
from readme_blocks import TEXT, blocks

from recon.base.errors import UserError
from train.chains.declared import OPS
from train.chains.parameters import Between
from train.evaluation.robust.cells import AS_IS
from train.evaluation.robust.grid import GRIDS, find_grid, parse_grid

CHAIN = """
messenger:
  - resize: {factor: [.75, .5], resampler: bicubic}
  - jpeg: {quality: [80, 60]}
"""


def test_every_combination_of_swept_values_is_a_cell_after_the_images_as_they_are() -> None:
    cells = parse_grid(CHAIN, "x")
    assert [cell.name for cell in cells] == [
        AS_IS,
        "messenger factor=0.75 quality=80",
        "messenger factor=0.75 quality=60",
        "messenger factor=0.5 quality=80",
        "messenger factor=0.5 quality=60",
    ]
    last = cells[-1]
    assert [(step.op, dict(step.values)) for step in last.steps] == [
        ("resize", {"factor": 0.5, "resampler": "bicubic"}),
        ("jpeg", {"quality": 60, "subsampling": "4:2:0"}),  # the default is stated
    ]
    assert (last.x and last.x.name, last.x and last.x.value, last.curve) == ("factor", 0.5, "quality=60")


def test_the_first_sweep_of_numbers_is_the_axis() -> None:
    cells = parse_grid("a:\n- resize: {resampler: [box, lanczos], factor: [2, .5]}", "x")
    assert {cell.curve for cell in cells[1:]} == {"resampler=box", "resampler=lanczos"}
    assert [cell.x and cell.x.value for cell in cells[1:]] == [2, 2, 0.5, 0.5]
    words = parse_grid("a:\n- resize: {resampler: [box, lanczos], factor: 2}", "x")
    assert [cell.x for cell in words] == [None] * 3


def test_two_swept_parameters_of_one_name_are_told_apart() -> None:
    cells = parse_grid("twice:\n- jpeg: {quality: [9, 8]}\n- jpeg: {quality: [7, 6]}", "x")
    assert cells[1].name == "twice jpeg 1 quality=9 jpeg 2 quality=7"
    assert len({cell.name for cell in cells}) == 5


SWEEPS = st.tuples(
    st.sampled_from([("jpeg", "quality"), ("webp", "quality"), ("square", "side")]),
    st.lists(st.integers(1, 100), min_size=1, max_size=3, unique=True),
)


@given(st.lists(SWEEPS, min_size=1, max_size=3))
def test_any_chain_has_a_cell_of_its_own_name_for_each_combination(chain: list[Any]) -> None:
    more = {"square": {"resampler": "box"}}
    steps = [{op: {word: values, **more.get(op, {})}} for (op, word), values in chain]
    _, *cells = parse_grid(json.dumps({"any": steps}), "x")  # JSON is YAML
    expected = list(product(*(values for _, values in chain)))
    found = [
        tuple(step.values[word] for step, ((_, word), _) in zip(cell.steps, chain, strict=True))
        for cell in cells
    ]
    assert found == expected
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({(cell.curve, cell.x and cell.x.value) for cell in cells}) == len(cells)


def test_values_may_be_drawn_for_each_image() -> None:
    [_, cell] = parse_grid("small:\n- resize: {factor: {from: .2, to: 1}, resampler: any}", "x")
    assert cell.steps[0].values == {"factor": Between(low=0.2, high=1), "resampler": "any"}
    assert "factor=U(0.2, 1) resampler=any" in cell.text


def test_named_grids_hold_what_they_are_to_hold() -> None:
    names = sorted(path.stem for path in GRIDS.glob("*.yaml"))
    assert names == ["dda", "reference", "standard"]
    for name in names:
        cells = find_grid(name)
        assert len({cell.name for cell in cells}) == len({cell.text for cell in cells}) == len(cells)
    standard = find_grid("standard")
    assert {step.op for cell in standard for step in cell.steps} == set(OPS) - {
        *("square", "thumbnail", "screenshot", "highpass")
    }
    swept = {(cell.family, cell.x.value) for cell in standard if cell.x}
    assert {("jpeg", 95), ("jpeg", 30), ("resize", 0.25), ("resize", 2)} <= swept
    assert len({cell.curve for cell in standard if cell.family == "resize"}) == 6
    assert [len(cell.steps) for cell in standard if cell.family in ("double-jpeg", "messenger")] == [2] * 10


def test_the_readmes_grid_is_one_and_its_table_has_every_operation_and_parameter() -> None:
    [grid] = [block for block in blocks("yaml") if "resampler" in block]
    cells = parse_grid(grid, "README.md")
    assert len(cells) == 1 + 3 + 4 + 1
    assert {cell.curve for cell in cells if cell.family == "messenger"} == {"quality=80", "quality=60"}
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    for name, op in OPS.items():
        [row] = [line for line in rows if f"`{name}`" in line.split("|")[1]]
        assert [word for word in op.parameters if f"`{word}`" not in row] == []


WRONG = {
    "nothing": ("", "expected families of cells"),
    "a list": ("[1]", "expected families of cells"),
    "no YAML": ("a: [", "is no YAML: while parsing"),
    "twice": ("a: [noise: {sigma: 1}]\na: [noise: {sigma: 2}]", "line 1: 'a' is there twice"),
    "name": ("a/b: [noise: {sigma: 1}]", "family 'a/b', expected a name of letters, digits and -_.+"),
    "as is": ("as is: [noise: {sigma: 1}]", "family 'as is', expected a name of letters"),
    "number as a name": ("1: [noise: {sigma: 1}]", "family 1, expected a name"),
    "no chain": ("a: {noise: {sigma: 1}}", "a: expected a list of operations"),
    "empty chain": ("a: []", "a: expected a list of operations"),
    "two in a step": (
        "a: [{noise: {sigma: 1}, blur: {sigma: 1}}]",
        "a: expected OPERATION: {PARAMETER: VALUE}",
    ),
    "a word": ("a: [noise]", "a: expected OPERATION: {PARAMETER: VALUE}, found 'noise'"),
    "operation": ("a: [sharpen: {}]", "no operation is called 'sharpen', expected one of jpeg, webp, avif"),
    "parameter": ("a: [blur: {radius: 1}]", "a, blur: no parameter is called 'radius', expected sigma"),
    "no mapping": ("a: [blur: 3]", "a, blur: expected {PARAMETER: VALUE}, found 3"),
    "missing": ("a: [blur: ]", "a, blur, sigma: expected a number 0 to 25; it is missing"),
    "too much": ("a: [blur: {sigma: 26}]", "a, blur, sigma: expected a number 0 to 25; found 26"),
    "not whole": ("a: [jpeg: {quality: 9.5}]", "expected a whole number 1 to 100; found 9.5"),
    "a truth": ("a: [jpeg: {quality: true}]", "expected a whole number 1 to 100; found True"),
    "a text": ("a: [jpeg: {quality: high}]", "expected a whole number 1 to 100; found 'high'"),
    "no number": ("a: [blur: {sigma: .nan}]", "a, blur, sigma: expected a number 0 to 25; found nan"),
    "sixties": ("a: [jpeg: {quality: 9, subsampling: 4:2:0}]", "expected one of '4:2:0', '4:2:2', '4:4:4'"),
    "filter": ("a: [resize: {factor: 2, resampler: cubic}]", "expected one of 'nearest', 'box', 'bilinear'"),
    "no sweep": ("a: [blur: {sigma: []}]", "a, blur, sigma=[]: expected values that differ"),
    "equal": ("a: [blur: {sigma: [1, 1.0]}]", "a, blur, sigma=[1, 1.0]: expected values that differ"),
    "in the sweep": ("a: [blur: {sigma: [1, 99]}]", "expected a number 0 to 25; found 99"),
    "reversed": (
        "a: [blur: {sigma: {from: 2, to: 1}}]",
        "expected a number 0 to 25; found {'from': 2, 'to': 1}",
    ),
    "half a range": ("a: [blur: {sigma: {from: 2}}]", "expected a number 0 to 25; found {'from': 2}"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_told_with_its_place_and_the_choices(case: str) -> None:
    text, told = WRONG[case]
    with pytest.raises(UserError) as found:
        parse_grid(text, "my.yaml")
    assert str(found.value).startswith("my.yaml")
    assert told in str(found.value)
    assert "\n" not in str(found.value)


def test_a_wrong_grid_is_one_line_and_status_2_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [sharpen: {}]")
    (tmp_path / "latin.yaml").write_bytes(b"\xe9")
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from train.robustness import main\n"
        "data, *grids = sys.argv[1:]\n"
        "for grid in grids:\n"
        "    sys.argv = ['x', '--checkpoint', 'a.pt', '--data', data, '--grid', grid]\n"
        "    try: main()\n"
        "    except SystemExit as end: assert end.code == 2, end.code\n"
    )
    ended = python(script, tmp_path, "gone", tmp_path / "bad.yaml", tmp_path / "latin.yaml")
    assert ended.returncode == 0, ended.stderr
    gone, bad, latin = ended.stderr.splitlines()
    assert gone == "error: grid=gone: expected dda, reference, standard, or a YAML file"
    assert "bad.yaml, a: no operation is called 'sharpen', expected one of jpeg, webp, avif" in bad
    assert "latin.yaml can't be read: 'utf-8' codec" in latin
