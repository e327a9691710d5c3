"""Operations in YAML: `OPERATION: {PARAMETER: VALUE}`, where a value may be a range or ``any``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recon.base.errors import UserError
from train.chains.declared import OPS
from train.chains.parameters import Between, Number, Parameter, Value

Sweeps = dict[str, list[Value]]
"""The values of each parameter of an operation."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """An operation with all its parameters."""

    op: str
    """One of `train.chains.declared.OPS`."""
    values: Mapping[str, Value]
    """By parameter; none is missing."""

    @property
    def parameters(self) -> str:
        """The parameters and their values."""
        return " ".join(f"{name}={value}" for name, value in self.values.items())


def parse_step(found: Any, where: str) -> tuple[str, Sweeps]:
    """An operation and, for each parameter, its values: several if it is swept.

    Args:
        found: what the YAML holds.
        where: its place, for messages.

    Raises:
        UserError: it is no operation with its parameters; the message names the place and the choices.
    """
    if not isinstance(found, dict) or len(found) != 1:
        raise UserError(f"{where}: expected OPERATION: {{PARAMETER: VALUE}}, found {found!r}")
    [(name, given)] = found.items()
    if name not in OPS:
        raise UserError(f"{where}: no operation is called {name!r}, expected one of {', '.join(OPS)}")
    parameters = OPS[name].parameters
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise UserError(f"{where}, {name}: expected {{PARAMETER: VALUE}}, found {given!r}")
    if unknown := [word for word in given if word not in parameters]:
        raise UserError(
            f"{where}, {name}: no parameter is called {unknown[0]!r}, expected {', '.join(parameters)}"
        )
    return name, {
        word: _values(given.get(word, parameter.default), parameter, f"{where}, {name}, {word}")
        for word, parameter in parameters.items()
    }


def _values(given: Any, parameter: Parameter, where: str) -> list[Value]:
    values = given if isinstance(given, list) else [given]
    found = [_value(one, parameter, where) for one in values]
    if not found or len(set(found)) < len(found):
        raise UserError(f"{where}={given}: expected values that differ")
    return found


def _value(given: Any, parameter: Parameter, where: str) -> Value:
    if isinstance(parameter, Number) and isinstance(given, dict) and set(given) == {"from", "to"}:
        ends = given["from"], given["to"]
        if all(map(parameter.takes, ends)) and ends[0] <= ends[1]:
            return Between(low=ends[0], high=ends[1])
    elif parameter.takes(given):
        value: float | str = given
        return value
    found = "it is missing" if given is None else f"found {given!r}"
    raise UserError(f"{where}: expected {parameter.expected}; {found}")
