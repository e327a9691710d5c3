"""The README's table of the reference's flags holds each of them, and names options that exist."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from readme_blocks import TEXT

from train.chains.chain import parse_chains
from train.loop.config import TrainConfig

# Of train.py, utils/training.py, utils/dataset.py and utils/processing.py of AlignedForensics' training_code.
FLAGS = """
name num_epoches earlystop_epoch
arch checkpoints_dir pretrain optim lr weight_decay ckpt beta1 eps_adv lambda_bce proj_ratio start_fresh
use_leaky flex_rz only_coco use_contrastive use_proj use_inversions no_cuda continue_epoch fix_backbone
stay_positive unfreeze_last_k final_dropout
dataroot batched_syncing adm data_cap batch_size num_threads seed
resizeSize loadSize cropSize no_random_crop resize_prob jitter_prob colordist_prob cutout_prob noise_prob
blur_prob cmp_prob rot90_prob no_flip hpf_prob pre_crop_prob rz_interp blur_sig cmp_method cmp_qual
resize_size resize_ratio norm_type num_views
""".split()
VALUES = {
    *(
        "imagenet",
        "head",
        "last:K",
        "sgd",
        "res50nodown",
        "res18nodown",
        "res50",
        "timm:resnet50",
        "cv2",
        "pil",
    ),
    *("resnet", "clip", "xception", "spec", "fft2", "residue3", "npr", "cooc", "highpass", "loss."),
}


def rows() -> list[tuple[str, str]]:
    table = TEXT.partition("| their flag | here |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    return [(theirs, ours) for theirs, ours in cells]


def options(config: Any, prefix: str = "") -> Iterator[str]:
    kinds = get_type_hints(config)
    for one in fields(config):
        yield prefix + one.name
        if is_dataclass(kinds[one.name]):
            yield from options(kinds[one.name], f"{prefix}{one.name}.")


def test_every_flag_of_the_references_parsers_has_a_row() -> None:
    told = [flag for theirs, _ in rows() for flag in re.findall(r"--(\w+)", theirs)]
    assert sorted(told) == sorted(FLAGS)


def test_every_option_that_the_table_names_exists() -> None:
    known = {*options(TrainConfig)}
    known |= {name.removeprefix("augment.") for name in known}
    named = [word for _, ours in rows() for word in re.findall(r"`([^`-][^` ]*)`", ours)]
    assert len(named) > 50
    assert {word for word in named if word not in known | VALUES} == set()


def test_the_readmes_degradations_are_chains() -> None:
    import yaml

    [block] = [one for one in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S) if "degrade:" in one]
    given = yaml.safe_load(block)
    assert set(given) == {"degrade", "degrade_side"}
    assert [one.p for one in parse_chains(given["degrade"], "README")] == [0.2, 0.1]
