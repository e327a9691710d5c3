"""Filters mean what Python means, and refuse what they can't."""

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, composite

from pack.dataset.filter import Filter
from pack.shard.schema import INDEX_SCHEMA
from recon.base.errors import UserError

Row = dict[str, Any]
Value = Callable[[Row], Any]  # None where it is missing

COLUMNS = ["pair_id", "group", "width", "height", "jpeg_quality", "jpeg_progressive", "seed"]
SCHEMA = pa.schema([INDEX_SCHEMA.field(name) for name in COLUMNS])


def rows() -> st.SearchStrategy[list[Row]]:
    small = st.integers(-6, 6)
    return st.lists(
        st.fixed_dictionaries(
            {
                "pair_id": st.integers(0, 9) | st.integers(2**64 - 9, 2**64 - 1),
                "group": st.none() | st.sampled_from(["coco", "faces", "", "Grüße"]),
                "width": small,
                "height": small,
                "jpeg_quality": st.none() | small,
                "jpeg_progressive": st.none() | st.booleans(),
                "seed": st.none() | small,
            }
        ),
        max_size=12,
    )


def null_safe(function: Callable[..., Any], *values: Value) -> Value:
    """The value of a function that is missing where an argument is, or where it divides by zero."""

    def value(row: Row) -> Any:
        found = [one(row) for one in values]
        try:
            return None if None in found else function(*found)
        except ZeroDivisionError:
            return None

    return value


def both(left: Value, right: Value) -> Value:
    def value(row: Row) -> bool | None:
        found = (left(row), right(row))
        return False if False in found else None if None in found else True

    return value


def negated(one: Value) -> Value:
    return null_safe(lambda found: not found, one)


def column(name: str) -> tuple[str, Value]:
    return name, lambda row: row[name]


def constant(value: Any) -> tuple[str, Value]:
    return repr(value), lambda _: value


@composite
def integers(draw: DrawFn, depth: int = 2) -> tuple[str, Value]:
    """A calculation with a column in it."""
    text, value = column(draw(st.sampled_from(["width", "height", "jpeg_quality", "seed"])))
    for _ in range(draw(st.integers(0, depth))):
        sign = draw(st.sampled_from("+-*%"))
        other_text, other = draw(integers(depth=0) | st.integers(-4, 4).map(constant))
        function = {
            "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "%": lambda a, b: a % b
        }[sign]  # fmt: skip
        text, value = f"({text} {sign} {other_text})", null_safe(function, value, other)
    if draw(st.booleans()):
        text, value = f"-{text}", null_safe(lambda a: -a, value)
    return text, value


@composite
def numbers(draw: DrawFn) -> tuple[str, Value]:
    text, value = draw(integers())
    if draw(st.booleans()):
        other_text, other = draw(integers() | st.sampled_from([0, 2, 0.5, -3]).map(constant))
        return f"{text} / {other_text}", null_safe(lambda a, b: a / b, value, other)
    return text, value


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def operands(draw: DrawFn) -> list[tuple[str, Value]]:
    """Two or three that can be compared."""
    texts = st.just(column("group")) | st.sampled_from(["coco", "d", ""]).map(constant)
    ids = st.just(column("pair_id")) | st.sampled_from([0, 4, 2**63 - 1]).map(constant)
    kind = numbers() | st.sampled_from([-1, 0, 3, 1.5]).map(constant)
    return draw(
        st.sampled_from([texts, ids, kind]).flatmap(lambda one: st.lists(one, min_size=2, max_size=3))
    )


@composite
def comparisons(draw: DrawFn) -> tuple[str, Value]:
    text, value = "", lambda _: True
    chain = operands(draw)
    for (left_text, left), (right_text, right) in pairwise(chain):
        name = draw(st.sampled_from(sorted(COMPARE)))
        text = f"{text or left_text} {name} {right_text}"
        value = both(value, null_safe(COMPARE[name], left, right))
    return f"({text})", value


@composite
def memberships(draw: DrawFn) -> tuple[str, Value]:
    text, value = draw(numbers() | st.just(column("group")) | st.just(column("pair_id")))
    choices: list[Any] = [0, 1, 2.0, -1.5] if "group" not in text else ["coco", "", "Grüße"]
    choices = [0, 3, 2**64 - 1] if text == "pair_id" else choices
    items = draw(st.lists(st.sampled_from(choices), max_size=3))
    shown = repr(items if draw(st.booleans()) else tuple(items))
    inside = null_safe(lambda found: found in items, value)
    return draw(
        st.sampled_from([(f"({text} in {shown})", inside), (f"({text} not in {shown})", negated(inside))])
    )


@composite
def nulls(draw: DrawFn) -> tuple[str, Value]:
    text, value = draw(st.sampled_from(COLUMNS).map(column))
    if draw(st.booleans()):
        return f"({text} is None)", lambda row: value(row) is None
    return f"({text} is not None)", lambda row: value(row) is not None


def joined(parts: tuple[tuple[str, Value], str, tuple[str, Value]]) -> tuple[str, Value]:
    (left_text, left), word, (right_text, right) = parts
    if word == "and":
        return f"({left_text} and {right_text})", both(left, right)
    return f"({left_text} or {right_text})", negated(both(negated(left), negated(right)))


CONDITIONS = st.recursive(
    comparisons() | memberships() | nulls() | st.just(column("jpeg_progressive")),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(joined)
        | inner.map(lambda one: (f"(not {one[0]})", negated(one[1])))
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(condition=CONDITIONS, table=rows())
def test_a_filter_means_what_python_means(condition: tuple[str, Value], table: list[Row]) -> None:
    text, value = condition
    numbered = pa.Table.from_pylist(table, SCHEMA).append_column(
        "row", pa.array(range(len(table)), pa.int64())
    )
    found = set(numbered.filter(Filter(text).expression)["row"].to_pylist())
    assert found == {number for number, row in enumerate(table) if value(row) is True}
    for number, row in enumerate(table):
        if None not in row.values():
            try:
                expected = eval(text, {}, row)
            except ZeroDivisionError:
                continue
            assert bool(expected) == (number in found)


def matches(text: str, **row: Any) -> bool:
    return bool(pa.Table.from_pylist([row], INDEX_SCHEMA).filter(Filter(text).expression).num_rows)


@pytest.mark.parametrize(
    "text", ["seed == 1", "seed != 1", "not seed == 1", "seed in [1]", "seed not in [1]"]
)
def test_a_missing_value_never_matches(text: str) -> None:
    assert not matches(text)
    assert not matches("jpeg_progressive")
    assert not matches("not jpeg_progressive")
    assert not matches(f"not ({text})")
    assert matches(f"{text} or seed is None")


def test_both_zeros_are_one_number_in_a_list_too() -> None:
    for zero in ("0", "0.0", "-0.0", "0 / -1"):
        assert matches(f"width / -1 in [{zero}]", width=0)
        assert matches(f"width / 1 in [{zero}]", width=0)
        assert not matches(f"width / -1 not in [{zero}]", width=0)


def test_constants_are_calculated() -> None:
    assert matches("width == 16 * 16 and 1 < 2 and not False", width=256)
    assert matches("'a' in ['a', 'b'] and 2 not in (3,)")
    assert matches("seed == -9223372036854775808", seed=-(2**63))
    assert matches("width < 1" + 400 * "0" + ".0", width=3)


def test_pair_ids_are_whole_to_the_last_bit() -> None:
    assert matches("pair_id == 18446744073709551615", pair_id=2**64 - 1)
    assert not matches("pair_id == 18446744073709551615", pair_id=2**64 - 2)
    assert matches("pair_id % 10 - 6 == -1 and pair_id % 10 < width", pair_id=2**64 - 1, width=6)


def test_a_filter_may_span_lines_and_hold_comments() -> None:
    text = "\n  width >= 256  # large\n  and group == 'coco'\n"
    assert matches(text, width=300, group="coco")
    assert not matches(text, width=300, group="faces")


@pytest.mark.parametrize(
    ("text", "message", "mark"),
    [
        ("widht >= 256", "is no column; did you mean width?", "^^^^^"),
        ("width > 3 and group == coco", "is no column; text stands in quotes", " " * 23 + "^^^^"),
        ("'Grüße' == group and wide > 3", "is no column; did you mean width?", " " * 21 + "^^^^"),
        ('width == "x"', "is text, expected a whole number", " " * 9 + "^^^"),
        ('width in (3, "x")', "is text, expected a whole number", " " * 13 + "^^^"),
        ("group < 3", "is a whole number, expected text", " " * 8 + "^"),
        ("jpeg_progressive == 1", "is a whole number, expected true or false", " " * 20 + "^"),
        ("jpeg_progressive > False", "true or false, which have no order", "^" * 16),
        ("width", "is a whole number, expected a condition such as width >= 256", "^^^^^"),
        ("width > 3 and group", "is text, expected a condition", " " * 14 + "^^^^^"),
        ("not width", "is a whole number, expected a condition", "    ^^^^^"),
        ("group + 'x' == 'cocox'", "is text, expected a number", "^^^^^"),
        ("width % 1.5 == 0", "takes the remainder of a fraction", "^" * 11),
        ("width == 1 / 0", "can't be calculated: division by zero", " " * 9 + "^^^^^"),
        ("width > 9223372036854775808", "expected a whole number of 64 bits", " " * 8 + "^" * 19),
        ("pair_id > -1", "is -1, expected a whole number from 0 to", " " * 10 + "^^"),
        ("pair_id > width", "can't be compared with a whole number from 0 to", " " * 10 + "^^^^^"),
        ("group == None", "stands only after is or is not", " " * 9 + "^^^^"),
        ("group is 'x'", "stands after is, expected None", " " * 9 + "^^^"),
        ("'x' in group", "stands after in, expected a list such as", " " * 7 + "^^^^^"),
        ("width in (3, height)", "stands in a list, expected numbers or text only", " " * 13 + "^" * 6),
        ("width & 3", "is not allowed; write and", "^" * 9),
        ("len(path) > 3", "is not allowed", "^" * 9),
        ("path.size > 3", "is not allowed", "^" * 9),
        ("width > [3][0]", "is not allowed", " " * 8 + "^" * 6),
        ("(lambda: 1)() == 1", "is not allowed", "^" * 13),
        ("f'{width}' == '3'", "is not allowed", "^" * 10),
        ("2 ** 9 > width", "is not allowed", "^" * 6),
        ("width == 3j", "is not allowed", " " * 9 + "^^"),
        ("~width == 3", "is not allowed", "^^^^^^"),
        ("width >", "is no condition: invalid syntax", " " * 7 + "^"),
        ("(width > 3", "is no condition: ", "^"),
        ("width > 3)", "is empty or has unmatched parentheses", "^" * 10),
        ("width > 3) or (height > 2", "is empty or has unmatched parentheses", "^" * 25),
        ("", "is empty", "^"),
        ("\nwidth > 3\nand wide > 3\n", "is no column", "    ^^^^"),
    ],
)
def test_whatever_else_is_refused_and_marked(text: str, message: str, mark: str) -> None:
    with pytest.raises(UserError) as caught:
        Filter(text)
    first, line, marked = str(caught.value).split("\n")[:3]
    assert first.startswith("filter: the marked part ")
    assert message in first
    assert line[2:] in text.split("\n")
    assert marked == f"  {mark}"


def test_an_unknown_name_lists_the_columns() -> None:
    with pytest.raises(UserError) as caught:
        Filter("wide == 3")
    assert str(caught.value).endswith(f"\ncolumns: {', '.join(INDEX_SCHEMA.names)}")


MONSTERS = [
    "1" + "+1" * 20_000 + " > width",
    "(" * 500 + "width" + ")" * 500,
    "not " * 5000 + "jpeg_progressive",
    "width > " + "9" * 5000,
    "group == '\ud800'",
    "width > 3 \0",
    "9" * 400 + " * 1.5 > width",
]


@pytest.mark.parametrize("text", MONSTERS, ids=range(len(MONSTERS)))
def test_monstrous_text_is_refused_too(text: str) -> None:
    with pytest.raises(UserError, match="filter"):
        Filter(text)


@given(text=st.text(alphabet="width34 ()<>=+-%'\"\n,[]notandinis#\\.", max_size=30))
def test_no_text_raises_anything_but_a_user_error(text: str) -> None:
    with suppress(UserError):
        Filter(text)
