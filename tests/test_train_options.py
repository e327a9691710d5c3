"""Options that nothing would heed are refused, in one line, by every command."""

from typing import Any

import pytest

from pack.base.config import PackConfig
from pack.inspect.info import InfoConfig
from recon.base.errors import UserError
from recon.folder import FolderConfig
from train.loop.config import DataConfig

PLACES = {"source": "a", "out": "b"}
READY = PLACES | {"reconstructions": "c"}


@pytest.mark.parametrize(
    ("config", "options", "complaint"),
    [
        (
            DataConfig,
            {"val_filter": "width > 3"},
            "data.val_filter=width > 3 would be ignored: there is no data.val",
        ),
        (DataConfig, {"val_crop": 128}, "data.val_crop=128 would be ignored: there is no data.val"),
        (DataConfig, {"val_batch": 2}, "data.val_batch=2 would be ignored: there is no data.val"),
        (DataConfig, {"cache_gb": 5.0}, "data.cache_gb=5.0 would be ignored: there is no data.cache_dir"),
        (FolderConfig, PLACES | {"seed": 3}, "seed=3 would be ignored: only posterior=sample uses it"),
        (
            FolderConfig,
            PLACES | {"autoencoder": "identity", "revision": "x"},
            "autoencoder=identity has no files",
        ),
        (
            FolderConfig,
            PLACES | {"autoencoder": "identity", "subfolder": "x"},
            "subfolder=x would be ignored",
        ),
        (PackConfig, PLACES | {"seed": 3}, "seed=3 would be ignored"),
        (
            PackConfig,
            PLACES | {"shard_pairs": 3, "shard_mb": 9},
            "shard_mb=9 would be ignored: shard_pairs fixes",
        ),
        (
            PackConfig,
            READY | {"autoencoder": "sd15"},
            "autoencoder=sd15 would be ignored: the reconstructions are",
        ),
        (
            PackConfig,
            READY | {"dtype": "bfloat16"},
            "dtype=bfloat16 would be ignored: the reconstructions are",
        ),
        (
            PackConfig,
            READY | {"batch_size": 1},
            "batch_size=1 would be ignored: the reconstructions are ready",
        ),
        (PackConfig, READY | {"autoencoder_mode": "each"}, "autoencoder_mode=each would be ignored"),
        (PackConfig, PLACES | {"layout": "tree", "compile": True}, "compile=True would be ignored"),
        (InfoConfig, {"as_json": True, "top": 3}, "top=3 would be ignored: as_json prints all values"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    config: type, options: dict[str, Any], complaint: str
) -> None:
    needed = {DataConfig: {"train": "a"}, InfoConfig: {"url": "a"}}.get(config, {})
    with pytest.raises(UserError, match=complaint) as refusal:
        config(**needed, **options)
    assert str(refusal.value).endswith("; leave it out")


def test_the_same_options_are_taken_where_they_count() -> None:
    DataConfig(
        train="a", val="b", val_filter="width > 3", val_crop=128, val_batch=2, cache_dir="c", cache_gb=5
    )
    FolderConfig(source="a", out="b", posterior="sample", seed=3)
    PackConfig(source="a", out="b", shard_mb=9, autoencoder="sd15", dtype="bfloat16", batch_size=1)
    PackConfig(source="a", out="b", reconstructions="c", codec="keep", threads=3)
    InfoConfig("a", top=3)
