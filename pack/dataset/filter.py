"""The language of filters on index columns: ``width >= 256 and group == "coco"``.

A filter is a condition in Python's words on the columns of the index (`pack.shard.schema.INDEX_SCHEMA`):
comparisons, also chained, ``in`` a list, ``is None``, ``+ - * / %``, ``and or not``. It is translated,
never executed. As in SQL, a comparison with a missing value, or with the result of a division by zero, is
neither true nor false. A pair is selected only where the whole filter is true.
"""

import ast
import difflib
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from pack.shard.schema import INDEX_SCHEMA
from recon.base.errors import UserError

_INTEGER, _UNSIGNED, _FLOAT = pa.int64(), pa.uint64(), pa.float64()
_TEXT, _BOOL = pa.string(), pa.bool_()
_WORDS = {
    _INTEGER: "a whole number",
    _UNSIGNED: "a whole number from 0 to 2**64 - 1",
    _FLOAT: "a number",
    _TEXT: "text",
    _BOOL: "true or false",
}
_NUMBERS = (_INTEGER, _UNSIGNED, _FLOAT)
_CONSTANTS = {bool: _BOOL, int: _INTEGER, float: _FLOAT, str: _TEXT}
_RANGES = {_INTEGER: range(-(2**63), 2**63), _UNSIGNED: range(2**64)}
_UNMATCHED = "is empty or has unmatched parentheses"
_ALLOWED = (
    "a filter is made of columns, numbers, text, True, False, ( ), == != < <= > >=, in [...], is None, "
    "+ - * / %, and, or, not"
)
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FOLD: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_CHECKED = {ast.Add: pc.add_checked, ast.Sub: pc.subtract_checked, ast.Mult: pc.multiply_checked}


@dataclass(frozen=True, kw_only=True)
class _Term:
    """A part of a filter: an expression over columns, or a constant of Python."""

    node: ast.expr
    kind: pa.DataType
    value: Any
    constant: bool = False

    def cast(self, kind: pa.DataType) -> pc.Expression:
        """Its expression, of the type `kind`."""
        if self.constant:
            return pc.scalar(pa.scalar(float(self.value) if kind == _FLOAT else self.value, kind))
        return self.value if kind == self.kind else self.value.cast(kind, safe=False)


class Filter:
    """A filter, translated.

    Args:
        text: the condition.

    Attributes:
        expression: the condition over the columns of an index, for pyarrow.
        canonical: its text in one spelling, so that spaces and quotes make no other filter.
        columns: names of the columns that it needs.

    Raises:
        UserError: it is not a condition; the error marks where.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns: set[str] = set()
        try:
            with warnings.catch_warnings():  # of escapes such as "\d", which are taken as they stand
                warnings.simplefilter("ignore")
                body = ast.parse(f"({text}\n)", mode="eval").body  # in parentheses: may span lines
            if (body.lineno, body.col_offset) == (1, 0):  # our parentheses were closed inside: a) or (b
                self._refuse_at(_UNMATCHED, 1, 1, len(text.split("\n")[0]))
            self.expression: pc.Expression = self._condition(body).cast(_BOOL)
            self.canonical = ast.unparse(body)
        except SyntaxError as error:
            if error.msg == "unmatched ')'":
                self._refuse_at(_UNMATCHED, 1, 1, len(text.split("\n")[0]))
            self._refuse_at(f"is no condition: {error.msg}", error.lineno or 1, (error.offset or 1) - 1)
        except UserError:
            raise
        except (RecursionError, MemoryError, ValueError, OverflowError) as error:
            raise UserError(f"filter {text[:100]!r} can't be read: {error}") from error

    def _term(self, node: ast.expr) -> _Term:
        translate: dict[type[ast.expr], Callable[[Any], _Term]] = {
            ast.Name: self._column,
            ast.Constant: self._constant,
            ast.BoolOp: self._and_or,
            ast.UnaryOp: self._unary,
            ast.BinOp: self._arithmetic,
            ast.Compare: self._comparisons,
        }
        if type(node) not in translate:
            self._refuse("is not allowed", node, _ALLOWED)
        return translate[type(node)](node)

    def _condition(self, node: ast.expr) -> _Term:
        term = self._term(node)
        if term.kind != _BOOL:
            self._refuse(f"is {_WORDS[term.kind]}, expected a condition such as width >= 256", node)
        return term

    def _column(self, node: ast.Name) -> _Term:
        if node.id not in INDEX_SCHEMA.names:
            near = difflib.get_close_matches(node.id, INDEX_SCHEMA.names, 1)
            hint = f"did you mean {near[0]}?" if near else "text stands in quotes"
            self._refuse(f"is no column; {hint}", node, f"columns: {', '.join(INDEX_SCHEMA.names)}")
        self.columns.add(node.id)
        kind = INDEX_SCHEMA.field(node.id).type
        if pa.types.is_integer(kind) and kind != _UNSIGNED:
            return _Term(node=node, kind=_INTEGER, value=pc.field(node.id).cast(_INTEGER))
        return _Term(node=node, kind=kind, value=pc.field(node.id))

    def _constant(self, node: ast.Constant) -> _Term:
        if node.value is None:
            self._refuse("stands only after is or is not: group is None", node)
        if type(node.value) not in _CONSTANTS:
            self._refuse("is not allowed", node, _ALLOWED)
        return self._folded(node, node.value)

    def _folded(self, node: ast.expr, value: Any) -> _Term:
        return _Term(node=node, kind=_CONSTANTS[type(value)], value=value, constant=True)

    def _and_or(self, node: ast.BoolOp) -> _Term:
        join = operator.and_ if isinstance(node.op, ast.And) else operator.or_
        parts = [self._condition(value).cast(_BOOL) for value in node.values]
        return _Term(node=node, kind=_BOOL, value=reduce(join, parts))

    def _unary(self, node: ast.UnaryOp) -> _Term:
        if isinstance(node.op, ast.Not):
            return _Term(node=node, kind=_BOOL, value=~self._condition(node.operand).cast(_BOOL))
        if not isinstance(node.op, ast.USub | ast.UAdd):
            self._refuse("is not allowed", node, _ALLOWED)
        zero = ast.copy_location(ast.Constant(0), node)
        sign = ast.Sub() if isinstance(node.op, ast.USub) else ast.Add()
        return self._arithmetic(ast.copy_location(ast.BinOp(zero, sign, node.operand), node))

    def _arithmetic(self, node: ast.BinOp) -> _Term:
        if type(node.op) not in _FOLD:
            word = {ast.BitAnd: "; write and", ast.BitOr: "; write or"}.get(type(node.op), "")
            self._refuse(f"is not allowed{word}", node, _ALLOWED)
        terms = self._term(node.left), self._term(node.right)
        for term in terms:
            if term.kind not in _NUMBERS:
                self._refuse(f"is {_WORDS[term.kind]}, expected a number", term.node)
        if all(term.constant for term in terms):
            try:
                return self._folded(node, _FOLD[type(node.op)](terms[0].value, terms[1].value))
            except ArithmeticError as error:
                self._refuse(f"can't be calculated: {error}", node)
        kind = _FLOAT if isinstance(node.op, ast.Div) else self._common(*terms)
        left, right = (term.cast(kind) for term in terms)
        if isinstance(node.op, ast.Div | ast.Mod):
            right = pc.if_else(right == pa.scalar(0, kind), pa.scalar(None, kind), right)
        if isinstance(node.op, ast.Mod):
            if kind == _FLOAT:
                self._refuse("takes the remainder of a fraction, expected whole numbers", node)
            rest = _Term(node=node, kind=kind, value=_remainder(left, right, kind))
            if terms[1].constant and terms[1].value in _RANGES[_INTEGER]:  # allows pair_id % 10 < width
                return _Term(node=node, kind=_INTEGER, value=rest.cast(_INTEGER))
            return rest
        calculate = pc.divide if isinstance(node.op, ast.Div) else _CHECKED[type(node.op)]
        return _Term(node=node, kind=kind, value=calculate(left, right))

    def _comparisons(self, node: ast.Compare) -> _Term:
        operands = [node.left, *node.comparators]
        links = zip(operands, node.ops, operands[1:], strict=False)
        parts = [self._comparison(left, op, right) for left, op, right in links]
        return _Term(node=node, kind=_BOOL, value=reduce(operator.and_, parts))

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pc.Expression:
        if isinstance(op, ast.Is | ast.IsNot):
            return self._is_none(left, op, right)
        if isinstance(op, ast.In | ast.NotIn):
            found = self._in(left, right)
            return found if isinstance(op, ast.In) else ~found
        terms = self._term(left), self._term(right)
        kind = self._common(*terms)
        if kind == _BOOL and not isinstance(op, ast.Eq | ast.NotEq):
            self._refuse("is true or false, which have no order; compare by == or !=", terms[0].node)
        return _COMPARE[type(op)](terms[0].cast(kind), terms[1].cast(kind))

    def _is_none(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pc.Expression:
        if not (isinstance(right, ast.Constant) and right.value is None):
            self._refuse("stands after is, expected None; compare by == or !=", right)
        term = self._term(left)
        null = term.cast(term.kind).is_null()
        return null if isinstance(op, ast.Is) else ~null

    def _in(self, left: ast.expr, right: ast.expr) -> pc.Expression:
        if not isinstance(right, ast.Tuple | ast.List):
            self._refuse('stands after in, expected a list such as ["coco", "faces"]', right)
        term = self._term(left)
        items = [self._term(item) for item in right.elts]
        for item in items:
            if not item.constant:
                self._refuse("stands in a list, expected numbers or text only", item.node)
        kinds = [self._common(term, item) for item in items]
        kind = _FLOAT if _FLOAT in kinds else term.kind
        # Arrow's isin takes -0.0 and 0.0 for two numbers; adding 0.0 makes the first the second.
        values = pa.array([item.value + 0.0 if kind == _FLOAT else item.value for item in items], kind)
        value = term.cast(kind) + pa.scalar(0.0) if kind == _FLOAT else term.cast(kind)
        return pc.if_else(value.is_valid(), value.isin(values), pa.scalar(None, _BOOL))

    def _common(self, left: _Term, right: _Term) -> pa.DataType:
        """The type in which two terms are compared or calculated with."""
        kinds = {left.kind, right.kind}
        if len(kinds) == 2 and not kinds <= set(_NUMBERS):
            self._refuse(f"is {_WORDS[right.kind]}, expected {_WORDS[left.kind]}", right.node)
        if _FLOAT in kinds:
            return _FLOAT
        kind = _UNSIGNED if _UNSIGNED in kinds else left.kind
        for term in (left, right):
            # pyarrow would refuse such a number too, but its error could not mark the part of the filter.
            if term.constant and kind in _RANGES and term.value not in _RANGES[kind]:
                self._refuse(f"is {term.value}, expected {_WORDS[kind]} of 64 bits", term.node)
            if not term.constant and term.kind != kind:
                self._refuse(f"can't be compared with {_WORDS[kind]}; use numbers, or % first", term.node)
        return kind

    def _refuse(self, message: str, node: ast.expr, advice: str = "") -> NoReturn:
        """Raises an error that marks a node, with `advice` on a line below."""
        found = ast.get_source_segment(f"({self.text}\n)", node) or ""
        start = len(self._line(node.lineno).encode()[: node.col_offset].decode())
        self._refuse_at(message, node.lineno, start, len(found.split("\n")[0]), advice)

    def _line(self, number: int) -> str:
        return f"({self.text}\n)".split("\n")[number - 1]

    def _refuse_at(self, message: str, line: int, start: int, length: int = 1, advice: str = "") -> NoReturn:
        """Raises an error that marks a place; `start` counts characters from 0, with our parenthesis."""
        lines = self.text.split("\n")
        if line > len(lines):  # the error is at the parenthesis that we added
            line, start = len(lines), len(lines[-1]) + (len(lines) == 1)
        start = max(0, start - (line == 1))
        mark = " " * start + "^" * max(1, length)
        below = f"\n{advice}" if advice else ""
        raise UserError(f"filter: the marked part {message}\n  {lines[line - 1]}\n  {mark}{below}")


def _remainder(left: pc.Expression, right: pc.Expression, kind: pa.DataType) -> pc.Expression:
    """The remainder as in Python, with the sign of the divisor. Arrow's division rounds towards zero."""
    rest = left - pc.divide(left, right) * right
    zero = pa.scalar(0, kind)
    other_sign = (rest != zero) & ((rest < zero) != (right < zero))
    return rest if kind == _UNSIGNED else pc.if_else(other_sign, rest + right, rest)
