"""Numbers that a processor computes at once, for the parts of kernels that numba would not make fast.

Of plain loops numba makes SIMD code by itself, but of no transposes, and it stores all between two loops in
memory. Functions here write LLVM's code: they run while a kernel is compiled, on its `builder`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

_INT, _SHORT = ir.IntType(32), ir.IntType(16)


@dataclass(frozen=True)
class Lanes:
    """Several int32, or int16, side by side; overflows wrap around."""

    builder: Any
    """Of llvmlite: writes the code."""
    value: Any
    """LLVM's name of the numbers."""

    def __add__(self, other: "Lanes | int") -> "Lanes":
        return self._made(self.builder.add(self.value, self._value(other)))

    def __sub__(self, other: "Lanes | int") -> "Lanes":
        return self._made(self.builder.sub(self.value, self._value(other)))

    def __mul__(self, other: "Lanes | int | Sequence[int]") -> "Lanes":
        return self._made(self.builder.mul(self.value, self._value(other)))

    def __xor__(self, other: "Lanes | int") -> "Lanes":
        return self._made(self.builder.xor(self.value, self._value(other)))

    def __lshift__(self, bits: int) -> "Lanes":
        return self._made(self.builder.shl(self.value, self._value(bits)))

    def __rshift__(self, bits: "Lanes | int") -> "Lanes":
        """Divided by 2**bits, rounded down."""
        return self._made(self.builder.ashr(self.value, self._value(bits)))

    def high(self, factor: int) -> "Lanes":
        """Of int16: the products with a factor, over 2**16, rounded down."""
        return (self.wide() * factor >> 16).narrow(16)

    def wide(self) -> "Lanes":
        """As int32."""
        return self._made(self.builder.sext(self.value, self._vector(_INT)))

    def narrow(self, bits: int) -> "Lanes":
        """The lowest bits of each: 16 or, to be stored, 8."""
        return self._made(self.builder.trunc(self.value, self._vector(ir.IntType(bits))))

    def with_sign_of(self, other: "Lanes") -> "Lanes":
        """The same, negated where the other is below 0."""
        mask = other >> 31
        return (self ^ mask) - mask

    def over(self, other: "Lanes") -> "Lanes":
        """The quotients, rounded towards 0, as float32 has them."""
        floats = ir.VectorType(ir.FloatType(), self.value.type.count)
        above, below = (self.builder.sitofp(one.value, floats) for one in (self, other))
        return self._made(self.builder.fptosi(self.builder.fdiv(above, below), self.value.type))

    def picked(self, lanes: Sequence[int], other: "Lanes | None" = None) -> "Lanes":
        """The numbers at these places; behind the last of the own come those of the other."""
        places = ir.Constant(ir.VectorType(_INT, len(lanes)), list(lanes))
        return self._made(self.builder.shuffle_vector(self.value, (other or self).value, places))

    def in_turn(self, other: "Lanes") -> "Lanes":
        """A number of the own, one of the other, and so on."""
        count = self.value.type.count
        return self.picked([place // 2 + count * (place % 2) for place in range(2 * count)], other)

    def at_least(self, least: int) -> "Lanes":
        """The larger of each number and this one."""
        return self._chosen(">", self._value(least))

    def at_most(self, most: int) -> "Lanes":
        """The smaller of each number and this one."""
        return self._chosen("<", self._value(most))

    def store(self, pointer: Any) -> None:
        """Stores the numbers, side by side."""
        kind = self.value.type
        self.builder.store(
            self.value, self.builder.bitcast(pointer, kind.as_pointer()), align=kind.element.width // 8
        )

    def store_bytes(self, pointer: Any) -> None:
        """Stores the lowest byte of each number, side by side."""
        self.narrow(8).store(pointer)

    def _chosen(self, order: str, other: Any) -> "Lanes":
        is_own = self.builder.icmp_signed(order, self.value, other)
        return self._made(self.builder.select(is_own, self.value, other))

    def _vector(self, kind: Any) -> Any:
        return ir.VectorType(kind, self.value.type.count)

    def _made(self, value: Any) -> "Lanes":
        return Lanes(self.builder, value)

    def _value(self, other: "Lanes | int | Sequence[int]") -> Any:
        if isinstance(other, Lanes):
            return other.value
        numbers = [other] * self.value.type.count if isinstance(other, int) else list(other)
        return ir.Constant(self.value.type, numbers)


def load(builder: Any, pointer: Any, count: int) -> Lanes:
    """Loads numbers of the pointer's kind as int32: int32, int16 with their sign, or uint8."""
    return _loaded(builder, pointer, count, _INT)


def load_shorts(builder: Any, pointer: Any, count: int) -> Lanes:
    """Loads numbers of the pointer's kind as int16: int16 or uint8."""
    return _loaded(builder, pointer, count, _SHORT)


def _loaded(builder: Any, pointer: Any, count: int, to: Any) -> Lanes:
    bits = pointer.type.pointee.width
    kind = ir.VectorType(ir.IntType(bits), count)
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()), align=bits // 8)
    if bits < to.width:
        widened = builder.zext if bits == 8 else builder.sext
        value = widened(value, ir.VectorType(to, count))
    return Lanes(builder, value)


def shorts(builder: Any, number: Any, count: int) -> Lanes:
    """LLVM's number, so many times, as int16."""
    none = ir.Constant(ir.VectorType(_SHORT, count), ir.Undefined)
    first = builder.insert_element(none, builder.trunc(number, _SHORT), ir.Constant(_INT, 0))
    return Lanes(builder, first).picked([0] * count)


def moved(builder: Any, pointer: Any, distance: Any) -> Any:
    """The pointer, so many numbers on; the distance is LLVM's or an int."""
    if isinstance(distance, int):
        distance = ir.Constant(ir.IntType(64), distance)
    return builder.gep(pointer, [distance])


def sums(builder: Any, turns: Any, count: int, terms: Callable[[Any], Sequence[Lanes]]) -> list[Lanes]:
    """Sums of eight numbers each, over a loop.

    Args:
        builder: of llvmlite.
        turns: of the loop, LLVM's number.
        count: of the sums.
        terms: writes what a turn, whose number it gets, adds to each of them.
    """
    tools: Any = cgutils
    zeros = ir.Constant(ir.VectorType(_INT, 8), [0] * 8)
    places = [tools.alloca_once_value(builder, zeros) for _ in range(count)]
    with tools.for_range(builder, turns) as loop:
        for term, place in zip(terms(loop.index), places, strict=True):
            builder.store((term + Lanes(builder, builder.load(place))).value, place)
    return [Lanes(builder, builder.load(place)) for place in places]
