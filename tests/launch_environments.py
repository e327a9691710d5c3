"""The variables that clusters and launchers give to a process, as their documentation or source has them."""

from collections.abc import Mapping

Variables = Mapping[str, str]


def slurm(rank: int, nodes: int, per_node: int) -> Variables:
    """srun: https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES."""
    return {
        **{"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_PROCID": str(rank)},
        **{"SLURM_NTASKS": str(nodes * per_node), "SLURM_STEP_NUM_TASKS": str(nodes * per_node)},
        **{
            "SLURM_NNODES": str(nodes),
            "SLURM_STEP_NUM_NODES": str(nodes),
            "SLURM_NODEID": str(rank // per_node),
        },
        **{"SLURM_LOCALID": str(rank % per_node), "SLURM_STEP_TASKS_PER_NODE": f"{per_node}(x{nodes})"},
        **{"SLURM_JOB_NODELIST": "gpu[01-09]", "SLURM_STEP_NODELIST": f"gpu[03-{nodes + 2:02}]"},
    }


def open_mpi(rank: int, nodes: int, per_node: int) -> Variables:
    """mpirun: https://docs.open-mpi.org/en/main/tuning-apps/environment-var.html."""
    place = {"RANK": rank, "SIZE": nodes * per_node, "LOCAL_RANK": rank % per_node, "LOCAL_SIZE": per_node}
    return {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in place.items()} | {
        "PMIX_NAMESPACE": "job@1"
    }


def kubeflow(rank: int, nodes: int) -> Variables:
    """TrainJob: pkg/runtime/framework/plugins/torch/torch.go of kubeflow/trainer."""
    return {
        **{"PET_NNODES": str(nodes), "PET_NODE_RANK": str(rank), "PET_NPROC_PER_NODE": "auto"},
        **{"PET_MASTER_ADDR": "train-node-0-0.train", "PET_MASTER_PORT": "29500"},
        "JOB_COMPLETION_INDEX": str(rank),
    }


def kubernetes(rank: int, nodes: int) -> Variables:
    """An Indexed Job: https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode."""
    return {"JOB_COMPLETION_INDEX": str(rank), "NNODES": str(nodes)}


def jobset(rank: int, nodes: int) -> Variables:
    """launch/kubernetes/train-jobset.yaml."""
    return kubernetes(rank, nodes) | {"RDZV_ENDPOINT": "train-node-0-0.train:29400", "RDZV_ID": "train"}


def sky(rank: int, nodes: int) -> Variables:
    """SkyPilot: https://docs.skypilot.co/en/latest/running-jobs/environment-variables.html."""
    return {
        **{
            "SKYPILOT_NODE_RANK": str(rank),
            "SKYPILOT_NUM_NODES": str(nodes),
            "SKYPILOT_NUM_GPUS_PER_NODE": "8",
        },
        "SKYPILOT_NODE_IPS": "\n".join(f"10.0.0.{number + 1}" for number in range(nodes)),
        "SKYPILOT_TASK_ID": "sky-2026-11-30-08-00-00-000000_train-1",
    }


def ray(rank: int, nodes: int, per_node: int) -> Variables:
    """A worker of Ray Train: ray/train/torch/config.py."""
    place = {"RANK": rank, "LOCAL_RANK": rank % per_node, "NODE_RANK": rank // per_node}
    sizes = {"WORLD_SIZE": nodes * per_node, "LOCAL_WORLD_SIZE": per_node}
    meet = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "41234"}
    return {name: str(value) for name, value in (place | sizes).items()} | meet


def torchrun(rank: int, nodes: int, per_node: int) -> Variables:
    """A rank of torchrun: torch/distributed/elastic/agent/server/local_elastic_agent.py."""
    more = {"GROUP_WORLD_SIZE": str(nodes), "TORCHELASTIC_RUN_ID": "run7", "TORCHELASTIC_RESTART_COUNT": "0"}
    return {**ray(rank, nodes, per_node), **more}
