"""How many CPUs a process takes: those that it may run on, not those of the machine."""

import os

import pytest

from recon.base.cpus import available_cpus


@pytest.fixture(autouse=True)
def _no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)


def may_run_on(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: count, raising=False)


def test_cpus_that_the_process_is_bound_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_cpus() == len(before)


@pytest.mark.parametrize(
    ("told", "expected"), [("2", 2), ("8", 8), ("64", 8), ("", 8), ("0", 8), ("many", 8), ("²", 8)]
)
def test_slurms_share_is_an_upper_bound(monkeypatch: pytest.MonkeyPatch, told: str, expected: int) -> None:
    may_run_on(monkeypatch, 8)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", told)
    assert available_cpus() == expected


def test_every_stage_that_takes_all_cpus_takes_those_available(monkeypatch: pytest.MonkeyPatch) -> None:
    from pack.pipeline.maker import threads_of
    from recon.models.config import ReconstructionConfig
    from recon.models.load import load

    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    may_run_on(monkeypatch, 3)
    assert threads_of("photos") == (3, 3)
    assert load(ReconstructionConfig(autoencoder="identity")).provenance.threads == 3


def test_machine_without_binding_has_all_its_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert available_cpus() == 5
