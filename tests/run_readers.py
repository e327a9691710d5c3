"""Reads a dataset of mixed codecs with each library of README's table, by the lines of README itself.

python tests/run_readers.py [FOLDER]

The libraries are installed in FOLDER (out/readers), beside those of this interpreter, and the dataset is
packed there. Prints the table; the status is 1 if a library did not read every pair.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

from conftest import photograph, save
from readme_blocks import blocks, programs

ROOT = Path(__file__).parents[1]
READERS = {  # by the imported package: the one that is installed, and the pairs of one turn of its loop
    "webdataset": ("webdataset", "1"),
    "datasets": ("datasets", "1"),
    "nvidia": ("nvidia-dali-cuda130", "len(real)"),
    "megatron": ("megatron-energon", "len(real)"),
    "grain": ("grain", "1"),
    "duckdb": ("duckdb", "pairs"),
}
INSTALLED = ("duckdb", "grain", "megatron-energon", "nvidia-dali-cuda130")  # the others are ours already
PNG, JPEG = 24, 40


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "out/readers").resolve()
    python = install(folder / "venv")
    if not (folder / "data/mine/train/.nv-meta").exists():
        pack(folder, python)
    found = {name: read(folder, python, name) for name in READERS}
    print("| reader | read |\n| --- | --- |")
    for name, pairs in found.items():
        print(f"| {named(python, READERS[name][0])} | {pairs} of {PNG + JPEG} pairs |")
    return 0 if set(found.values()) == {PNG + JPEG} else 1


def install(venv: Path) -> Path:
    """An interpreter that has the libraries of this one, and those that only this script needs."""
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        site = next(venv.glob("lib/python*/site-packages"))
        (site / "shared.pth").write_text("\n".join(one for one in sys.path if one.endswith("site-packages")))
        subprocess.run([python, "-m", "pip", "install", "--quiet", *INSTALLED], check=True)
    return python


def pack(folder: Path, python: Path) -> None:
    """Writes the dataset, and for Energon its own index beside it.

    PNG come first, more than a reader looks at that takes its columns from the first samples.
    """
    for number in range(PNG + JPEG):
        name = f"a/{number:02}.png" if number < PNG else f"b/{number:02}.jpg"
        save(folder / "photos" / name, photograph(64, 96, number))
    line = "-m pack --source photos --out data/mine/train --autoencoder identity --shard_pairs 16"
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *line.split()], cwd=folder, check=True, env=variables)
    for line in "".join(blocks("bash")).splitlines():
        if line.startswith("energon "):
            subprocess.run(f"{python.parent}/{line}", cwd=folder, shell=True, check=True, capture_output=True)


def read(folder: Path, python: Path, name: str) -> int:
    """The pairs that a library reads by its lines in README, which end with a loop; 0 if they fail."""
    lines = programs()[name].rstrip().splitlines()
    lines.insert(ast.parse("\n".join(lines)).body[-1].lineno - 1, "read = 0")
    lines += [f"    read += {READERS[name][1]}", "print(read)"]
    (folder / f"read_{name}.py").write_text("\n".join(lines))
    command = [python, f"read_{name}.py"]
    variables = os.environ | {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(command, cwd=folder, env=variables, check=False, stdout=subprocess.PIPE, text=True)
    return int(ended.stdout.split()[-1]) if ended.returncode == 0 else 0


def named(python: Path, package: str) -> str:
    script = f"from importlib.metadata import version; print(version({package!r}))"
    return f"{package} {subprocess.check_output([python, '-c', script], text=True).strip()}"


if __name__ == "__main__":
    sys.exit(main())
