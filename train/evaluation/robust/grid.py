"""The grid of a robustness test: families of cells, each a chain of operations, as YAML describes them.

    jpeg:                                     # a family; a cell for each quality
      - jpeg: {quality: [95, 80, 50]}
    messenger:                                # two steps; a curve for each quality
      - resize: {factor: [.75, .5], resampler: bicubic}
      - jpeg: {quality: [80, 60], subsampling: "4:2:0"}
    small:                                    # one cell; the factor is drawn for each image
      - resize: {factor: {from: .2, to: 1}, resampler: any}

A list is a sweep. The first sweep of numbers in a family is the x axis of its picture.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from recon.base.errors import UserError
from recon.base.paths import named_yaml
from train.chains.parameters import Value
from train.chains.parse import Step, Sweeps, parse_step
from train.evaluation.robust.cells import AS_IS, Cell, Swept

GRIDS = Path(__file__).parents[3] / "configs" / "robustness"
"""Folder of the grids that have a name."""
_NAME = re.compile(r"[\w.+-]+")


def find_grid(grid: str) -> list[Cell]:
    """The cells of a grid; the first one is `AS_IS`.

    Args:
        grid: the name of a file in `GRIDS` without ``.yaml``, or the path of a YAML file.

    Raises:
        UserError: there is no such file, or it is no grid; the message names the place and the choices.
    """
    path = named_yaml(GRIDS, grid, "grid")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"grid={grid} can't be read: {error}") from error
    return parse_grid(text, str(path))


def parse_grid(text: str, where: str) -> list[Cell]:
    """The cells of a grid in YAML, after `AS_IS`; see `find_grid`.

    Args:
        text: the YAML.
        where: its place, for messages.
    """
    families = _loaded(text, where)
    if not isinstance(families, dict) or not families:
        raise UserError(f"{where}: expected families of cells, such as 'jpeg: [jpeg: {{quality: [90, 50]}}]'")
    cells = [Cell(family=AS_IS)]
    for family, chain in families.items():
        if not isinstance(family, str) or not _NAME.fullmatch(family):  # it becomes a file's name
            raise UserError(f"{where}: family {family!r}, expected a name of letters, digits and -_.+")
        if not isinstance(chain, list) or not chain:
            raise UserError(f"{where}, {family}: expected a list of operations, found {chain!r}")
        cells += _cells(family, [parse_step(one, f"{where}, {family}") for one in chain])
    return cells


def _loaded(text: str, where: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        """Refuses a key that is given twice; YAML's own rule is that the last one wins."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            if twice := [key for number, key in enumerate(keys) if key in keys[:number]]:
                raise UserError(f"{where} line {node.start_mark.line + 1}: {twice[0]!r} is there twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is no YAML: {' '.join(str(error).split())}") from error


Chain = Sequence[tuple[str, Sweeps]]
Place = tuple[int, str]
"""Number of an operation in its chain, and the name of a parameter."""


def _cells(family: str, chain: Chain) -> Iterator[Cell]:
    """The cells of a family: every combination of swept values, the last sweep turning fastest."""
    sweep_at = {(n, word): values for n, (_, sweeps) in enumerate(chain) for word, values in sweeps.items()}
    swept = [place for place, values in sweep_at.items() if len(values) > 1]
    axis = next((place for place in swept if _is_axis(sweep_at[place])), None)
    for values in product(*sweep_at.values()):
        at = dict(zip(sweep_at, values, strict=True))
        steps = [
            Step(op=op, values={word: at[number, word] for word in sweeps})
            for number, (op, sweeps) in enumerate(chain)
        ]
        named = {one: Swept(name=_title(chain, one, swept), value=at[one]) for one in swept}
        x = None if axis is None else named.pop(axis)
        yield Cell(family=family, steps=steps, x=x, others=list(named.values()))


def _is_axis(values: Sequence[Value]) -> bool:
    return all(isinstance(one, int | float) for one in values)


def _title(chain: Chain, place: Place, swept: Sequence[Place]) -> str:
    """What a swept parameter is called; with its operation and number where two have one name."""
    number, word = place
    if sum(other == word for _, other in swept) == 1:
        return word
    return f"{chain[number][0]} {number + 1} {word}"
