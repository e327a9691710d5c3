"""`python -m pack --engine ray`: the bytes of plain processes, whatever becomes of the actors."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pack_runs import PACK, config, ended, files, pack_rank, start

from pack.base.config import PackConfig
from pack.publish.packing import pack
from pack.publish.ray_engine import Dealer, _Run, pack_by_actors
from recon.base.errors import UserError


def test_a_dealer_deals_each_number_once_and_again_what_a_dead_actor_had() -> None:
    dealer = Dealer()
    assert [dealer.draw(0, "train", 3), dealer.draw(1, "train", 3), dealer.draw(0, "val", 1)] == [0, 1, 0]
    dealer.take_back(0)
    dealer.take_back(7)
    assert dealer.has_more()
    assert [dealer.draw(1, "train", 3) for _ in range(3)] == [2, 0, None]
    assert [dealer.draw(1, "val", 1), dealer.draw(1, "val", 1)] == [0, None]
    assert not dealer.has_more()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine_workers": 2}, "engine_workers=2 would be ignored: there is no engine"),
        ({"engine": "ray", "engine_workers": 0}, "engine_workers=0, expected at least 1"),
        ({"engine": "ray", "rank": 0, "world_size": 2}, "engine=ray deals the shards itself"),
        ({"engine": "ray", "dry_run": True}, "engine=ray deals the shards itself"),
    ],
)
def test_options_that_do_not_go_with_an_engine_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PackConfig(source="photos", out="out", **options)


def test_without_ray_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"engine=ray needs Ray: pip install -e '\.\[ray\]'"):
        pack_by_actors(PackConfig(source="photos", out="out", engine="ray", engine_workers=1))


# On as much of Ray as the engine uses, in this process: what is called is carried out when it is waited for.


class DiedError(Exception):
    """An actor is dead."""


class FakeRay:
    """A cluster whose actors die when they ask for a shard.

    Args:
        gpus: that it has.
        deaths: after how many shards each actor dies, by its number.
    """

    def __init__(self, gpus: int = 0, deaths: dict[int, int] | None = None) -> None:
        self.gpus, self.deaths, self.packed = gpus, deaths or {}, 0
        self.asked: list[dict[str, int]] = []
        self.exceptions = SimpleNamespace(RayActorError=DiedError)

    def cluster_resources(self) -> dict[str, float]:
        return {"GPU": float(self.gpus)}

    def remote(self, **needs: int) -> Callable[[type], Any]:
        self.asked.append(needs)
        return lambda kind: SimpleNamespace(remote=lambda *given: _Handle(self, kind(*given)))

    def wait(self, asked: Sequence["_Asked"]) -> tuple[list["_Asked"], list["_Asked"]]:
        return [asked[0]], list(asked[1:])

    def get(self, asked: "_Asked") -> Any:
        return asked.call()


class _Asked:
    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call


class _Handle:
    def __init__(self, ray: FakeRay, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._actor, name)

        def call(*given: Any) -> Any:
            if name == "draw":
                self._ray.deaths[given[0]] = self._ray.deaths.get(given[0], 1000) - 1
                if self._ray.deaths[given[0]] < 0:
                    raise DiedError
            self._ray.packed += name == "pack"
            return method(*given)

        return SimpleNamespace(remote=lambda *given: _Asked(lambda: call(*given)))


def run_on(ray: FakeRay, how: PackConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ray)
    _Run(ray, how).finish()


@pytest.mark.parametrize("deaths", [{}, {0: 0}, {0: 2}, {0: 1, 1: 1, 2: 1}, {1: 0, 2: 0}])
def test_the_bytes_are_those_of_ranks_whoever_dies(
    deaths: dict[int, int], photographs: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run_on(FakeRay(gpus=2, deaths=deaths), config(photographs, out, engine="ray"), monkeypatch)
    assert files(out) == files(packed)


@pytest.mark.parametrize(
    ("gpus", "options", "actors", "on_gpu"),
    [
        (3, {}, 3, 1),
        (3, {"engine_workers": 1}, 1, 1),
        (0, {"engine_workers": 4}, 4, 0),
        (3, {"engine_workers": 2, "device": "cpu"}, 2, 0),
        (0, {"engine_workers": 2, "device": "cuda"}, 2, 1),  # they wait until the cluster grows
    ],
)
def test_each_actor_takes_a_gpu_where_there_are_some_or_they_are_asked_for(
    gpus: int,
    options: dict[str, Any],
    actors: int,
    on_gpu: int,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pack.publish.packing.pack", lambda *_: True)
    ray = FakeRay(gpus=gpus)
    run_on(ray, config(photographs, tmp_path / "out", engine="ray", **options), monkeypatch)
    assert ray.asked[1:] == [{"num_cpus": 1, "num_gpus": on_gpu}] * actors


def test_splits_are_completed_even_if_no_actor_sees_all_of_them_complete(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"val_fraction": 0.4, "shard_pairs": 2}
    pack(config(photographs, tmp_path / "plain", **options))
    how = config(photographs, tmp_path / "out", engine="ray", engine_workers=2, **options)
    run_on(FakeRay(deaths={0: 1}), how, monkeypatch)
    assert files(tmp_path / "out") == files(tmp_path / "plain")


def test_actors_that_die_again_and_again_end_the_run(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay(deaths=dict.fromkeys(range(100), 0))
    how = config(photographs, tmp_path / "out", engine="ray", engine_workers=2)
    with pytest.raises(UserError, match=r"10 actors died, and now one more: .*see Ray's logs"):
        run_on(ray, how, monkeypatch)
    assert ray.packed == 11


def test_a_cluster_without_gpus_needs_a_number_of_workers(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="found no GPU; pass --engine_workers"):
        run_on(FakeRay(), config(photographs, tmp_path / "out", engine="ray"), monkeypatch)


def test_a_mistake_of_the_user_ends_the_run_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = config(tmp_path / "none", tmp_path / "out", engine="ray", engine_workers=2)
    with pytest.raises(UserError, match="none"):
        run_on(FakeRay(), how, monkeypatch)


def test_ranks_and_actors_continue_what_the_other_began(
    photographs: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    pack_rank(photographs, out, 1, 3)
    written = (out / "shard-000001.tar").stat().st_mtime_ns
    run_on(FakeRay(deaths={0: 2}), config(photographs, out, engine="ray", engine_workers=2), monkeypatch)
    assert files(out) == files(packed)
    assert (out / "shard-000001.tar").stat().st_mtime_ns == written


# On Ray itself


@pytest.mark.parametrize("dies", ["", "OneDies"])
def test_actors_on_ray_pack_the_bytes_of_ranks(dies: str, photographs: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    plain, out, options = tmp_path / "plain", tmp_path / "out", ("--shard_pairs", 1)
    for process in [
        start(photographs, plain, *options, "--rank", rank, "--world_size", 2) for rank in range(2)
    ]:
        code, error = ended(process)
        assert code == 0, error
    script = PACK
    if dies:
        swap = f"from pack.publish import ray_engine\nfrom ray_actors import {dies}\n"
        script = f"{swap}ray_engine.Packer = {dies}\n{PACK}"
    tests = {"PYTHONPATH": str(Path(__file__).parent)}
    actors = ("--engine", "ray", "--engine_workers", 2)
    code, error = ended(start(photographs, out, *options, *actors, script=script, environment=tests))
    assert code == 0, error
    assert files(out) == files(plain)
    assert len(re.findall(r"^actor [01] died, its shards go to others$", error, re.MULTILINE)) == bool(dies)


def test_actors_on_ray_that_all_die_end_the_run_with_status_2(photographs: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    script = (
        "from pack.publish import ray_engine\nfrom ray_actors import AllDie\n"
        f"ray_engine.Packer, ray_engine._DEATHS = AllDie, 1\n{PACK}"
    )
    tests = {"PYTHONPATH": str(Path(__file__).parent)}
    actors = ("--engine", "ray", "--engine_workers", 1, "--shard_pairs", 1)
    process = start(photographs, tmp_path / "out", *actors, script=script, environment=tests)
    code, error = ended(process)
    assert (code, "Traceback" in error) == (2, False), error
    assert "error: 1 actors died, and now one more" in error
