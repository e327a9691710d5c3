"""A line for each place that a command may be given, and small whole places that make each line work."""

import shlex
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import photograph, save
from report_folders import write_evaluation, write_run
from robustness_runs import GRID
from scored_images import png, put, save_untrained
from stranger_tars import write_members

import recon
from pack.base.config import PackConfig
from pack.publish.packing import pack
from train.evaluation.results import ScoredImage

COMMON = {
    "pack.audit": "--pairs 4",
    "recon.fit": "--steps 1 --device cpu --crop 16 --batch_size 1",
    "train": (
        "--data.workers 0 --device cpu --threads 1 --augment.crop 16 --epochs 1 --order.global_batch 4 "
        "--order.lanes 4 --order.block 2 --model.backbone highpass"
    ),
    "train.bench": "--pairs 2 --batch 2 --device cpu --augment.crop 16",
    "train.calibrate": "--device cpu",
    "train.compare": "--resamples 5",
    "train.evaluate": "--device cpu --resamples 5",
    "train.robustness": "--device cpu --resamples 5",
    "train.score": "--device cpu",
}
"""Options that each line of a command has beside its own: they keep the work small."""

TABLE = """
input photos list.csv images.tar | pack --source PLACE --out NEW --autoencoder identity
input fakes                      | pack --source BASE/photos --reconstructions PLACE --out NEW
input model                      | pack --source BASE/photos --out NEW --autoencoder PLACE
input options.yaml               | pack --config PLACE --source BASE/photos --out NEW --autoencoder identity
folder out                       | pack --source BASE/photos --out PLACE --autoencoder identity
input packed                     | pack.audit PLACE --out NEW
folder out                       | pack.audit BASE/packed --out PLACE
input packed                     | pack.finish PLACE
input packed                     | pack.verify PLACE
input theirs theirs/0.tar        | pack.index PLACE
input packed                     | pack.info PLACE
input packed                     | pack.preview PLACE --out NEW.png
file out.png                     | pack.preview BASE/packed --out PLACE
input packed                     | pack.status PLACE --world_size 2
input packed                     | pack.upgrade PLACE
input photos                     | recon --source PLACE --out NEW --autoencoder identity
input model                      | recon --source BASE/photos --out NEW --autoencoder PLACE
folder out                       | recon --source BASE/photos --out PLACE --autoencoder identity
input photos                     | recon.fit --source PLACE --heldout BASE/fakes --out NEW
input fakes                      | recon.fit --source BASE/photos --heldout PLACE --out NEW
input model                      | recon.fit --source BASE/photos --heldout BASE/fakes --start PLACE --out NEW
folder out                       | recon.fit --source BASE/photos --heldout BASE/fakes --out PLACE
input packed                     | train --data.train PLACE --out NEW
more run/best.pt                 | train --data.train BASE/packed --model.weights PLACE --out NEW
more options.yaml                | train --data.train BASE/packed --augment PLACE --out NEW
folder out                       | train --data.train BASE/packed --out PLACE
input packed                     | train.bench PLACE
input packed                     | train.simulate --data PLACE
file out.json                    | train.bench BASE/packed --json PLACE
input run/best.pt                | train.calibrate --checkpoint PLACE --data BASE/tree
input tree                       | train.calibrate --checkpoint BASE/run/best.pt --data PLACE
input eval eval/scores.csv       | train.compare BASE/eval2 PLACE
folder out                       | train.compare BASE/eval2 BASE/eval --out PLACE
input run run/best.pt            | train.evaluate --checkpoint PLACE --data BASE/tree --out NEW
input tree packed table.csv      | train.evaluate --checkpoint BASE/run/best.pt --data PLACE --out NEW
input images.parquet images.tar  | train.evaluate --checkpoint BASE/run/best.pt --data PLACE --out NEW
input photos/0.png               | train.evaluate --checkpoint BASE/run/best.pt --data PLACE --out NEW
folder out                       | train.evaluate --checkpoint BASE/run/best.pt --data BASE/tree --out PLACE
input eval | train.evaluate --checkpoint BASE/run --data BASE/tree --threshold 'from PLACE balanced' --out NEW
input run/best.pt                | train.export --checkpoint PLACE --out NEW
folder out                       | train.export --checkpoint BASE/run/best.pt --out PLACE
input log                        | train.report --run PLACE --evaluation BASE/eval --out NEW.md
input eval                       | train.report --run BASE/log --evaluation PLACE --out NEW.md
input photos/0.png | train.report --run BASE/log --evaluation BASE/eval --preview PLACE --out NEW.md
input curves       | train.report --run BASE/log --evaluation BASE/eval --robustness PLACE --out NEW.md
file out.md                      | train.report --run BASE/log --evaluation BASE/eval --out PLACE
input tree         | train.robustness --checkpoint BASE/run --data PLACE --grid BASE/grid.yaml --out NEW
input grid.yaml    | train.robustness --checkpoint BASE/run --data BASE/tree --grid PLACE --out NEW
folder out         | train.robustness --checkpoint BASE/run --data BASE/tree --grid BASE/grid.yaml --out PLACE
input run/best.pt                | train.score PLACE BASE/photos/0.png
input photos photos/0.png        | train.score BASE/run/best.pt PLACE
file out.csv                     | train.score BASE/run/best.pt BASE/photos/0.png --csv PLACE
file out.json                    | train.score BASE/run/best.pt BASE/photos/0.png --json PLACE
file out.png                     | train.score BASE/run/best.pt BASE/photos/0.png --window 16 --heatmap PLACE
"""
"""What is tried: its kind and names, and a command; see `Line`. Its other places are whole."""


@dataclass(frozen=True)
class Line:
    """A command with one place that is tried."""

    command: str
    kind: str
    """``input`` is read; so is ``more``, which is tried in few ways; ``folder`` and ``file`` are written."""
    whole: str
    """The whole place among `write_places`; of results, a name."""
    words: tuple[str, ...]
    """The arguments: PLACE stands for the place that is tried, BASE for the folder of the whole ones, NEW for
    what is not there and will be made."""

    @property
    def is_read(self) -> bool:
        """Whether the place is no result."""
        return self.kind in ("input", "more")

    def __str__(self) -> str:
        before = next(number for number, word in enumerate(self.words) if "PLACE" in word) - 1
        option = self.words[before] if before >= 0 and self.words[before].startswith("-") else ""
        return " ".join(filter(None, [self.command, option, self.whole]))

    def argv(self, place: Path, base: Path, new: Path) -> list[str]:
        """The arguments with their places."""
        found = list(self.words)
        for name, path in (("PLACE", place), ("BASE", base), ("NEW", new)):
            found = [word.replace(name, str(path)) for word in found]
        return found


def signals_stay() -> Iterator[None]:
    """Puts back the handlers that the commands set: the body of a fixture."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def main_of(command: str) -> Any:
    """The function that ``python -m COMMAND`` calls."""
    found = find_spec(command)
    assert found is not None, command
    is_folder = found.submodule_search_locations is not None
    return import_module(f"{command}.__main__" if is_folder else command).main


def write_places(base: Path) -> None:
    """Writes all whole places below a folder."""
    for number in range(4):
        save(base / f"photos/{number}.png", photograph(24, 24, number))
        save(base / f"fakes/{number}.png", photograph(24, 24, number + 9))
        put(base / f"tree/gan/0_real/{number}.png", png(number))
        put(base / f"tree/gan/1_fake/{number}.png", png(number + 10))
    options = {"autoencoder": "identity", "shard_pairs": 2, "threads": 1}
    pack(PackConfig(source=f"{base}/photos", out=f"{base}/packed", **options))  # type: ignore[arg-type]
    write_members(base / "theirs/0.tar", [("0.real.png", png(0)), ("0.fake.png", png(1))])
    write_members(base / "images.tar", [("real/0.png", png(0)), ("fake/0.png", png(1))])
    put(base / "list.csv", b"path\nphotos/0.png\n")
    put(base / "table.csv", b"filename,typ\ntree/gan/0_real/0.png,real\ntree/gan/1_fake/0.png,gan\n")
    with (base / "images.parquet").open("wb") as file:
        pq.write_table(pa.table({"image": [{"bytes": png(0)}, {"bytes": png(1)}], "label": [0, 1]}), file)
    shutil.copytree(Path(recon.__file__).with_name("tiny"), base / "model")
    put(base / "grid.yaml", GRID.encode())
    put(base / "options.yaml", b"{}\n")
    (base / "run").mkdir()
    save_untrained(base / "run/best.pt")
    write_run(base / "log")
    scored = [
        ScoredImage(name=f"{n}.png", group="gan", label=n % 2, logit=n % 2 - 0.3, photograph=str(n // 2))
        for n in range(12)
    ]
    for name in ("eval", "eval2"):
        write_evaluation(base / name, scored)
    put(base / "curves/robustness.json", b"{}")
    save(base / "curves/curves-jpeg.png", photograph(24, 24, 5))


def _lines() -> Iterator[Line]:
    for row in TABLE.strip().splitlines():
        about, shown = row.split("|")
        kind, *wholes = about.split()
        command, *words = shlex.split(f"{shown} {COMMON.get(shown.split()[0], '')}")
        for whole in wholes:
            yield Line(command, kind, whole, tuple(words))


LINES = list(_lines())
