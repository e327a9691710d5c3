"""A loader gives the same bits, whoever decodes."""

from itertools import islice
from typing import Any

import pytest
import torch
from test_recon_jpeg import jpeg
from train_data import put_png

from pack.base.config import PackConfig
from pack.dataset.dataset import iterate_pairs
from pack.publish.packing import pack
from recon.base.errors import UserError
from recon.image.codec import decode_rgb
from train.draws.config import AugmentConfig
from train.loader.loader import PairLoader
from train.window import images

PAIRS = 14
RECIPES = {"published": AugmentConfig(crop=40), "views": AugmentConfig(crop=24, views=2), "clean": None}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """JPEGs of several samplings, and some PNGs."""
    folder = tmp_path_factory.mktemp("mixed")
    for name in ("real", "fake"):
        (folder / name).mkdir()
    for number in range(PAIRS):
        size = ((250, 300), (30, 200))[number % 2]
        sampling = ("4:2:0", "4:2:2", "4:4:4", "grey")[number % 4]
        two = [jpeg(*size, sampling, 90, 2 * number + one) for one in (0, 1)]
        if number % 5 == 4:
            for one, data in zip(("real", "fake"), two, strict=True):
                put_png(folder / f"{one}/{number}.png", decode_rgb(data))
        else:
            for one, data in zip(("real", "fake"), two, strict=True):
                (folder / f"{one}/{number}.jpg").write_bytes(data)
    out = str(folder / "packed")
    given = str(folder / "fake")
    pack(PackConfig(source=str(folder / "real"), reconstructions=given, out=out, shard_pairs=9))
    return out


def batches(url: str, decode: Any, first: int = 0, **options: Any) -> list[Any]:
    loader = PairLoader(url, batch_size=4, seed=5, lanes=2, block=2, centre_crop=40, decode=decode, **options)
    try:
        loader.load_state_dict({**loader.state_dict(), "step": first})
        return [{"images": one.images.clone(), "keys": one.keys} for one in loader]
    finally:
        loader.close()


def test_the_pairs_have_entry_points_where_they_are_jpegs(url: str) -> None:
    known = [pair.hints["real"].entries is not None for pair in iterate_pairs(url)]
    assert 8 < sum(known) < PAIRS


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("workers", [0, 1])
def test_host_and_device_give_the_same_bits(url: str, name: str, workers: int) -> None:
    options = {"augment": RECIPES[name], "workers": workers}
    host, device = (batches(url, one, **options) for one in ("host", "device"))
    assert len(host) == len(device) == 4
    assert_same(host, device)
    assert_same(host[2:], batches(url, "device", first=2, **options))


def assert_same(ones: list[Any], others: list[Any]) -> None:
    for one, other in zip(ones, others, strict=True):
        assert one["keys"] == other["keys"]
        assert torch.equal(one["images"], other["images"])


def test_the_device_decodes_parts_that_the_host_does_not(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    real = images.Stored.coefficients

    def watched(self: Any, box: Any) -> Any:
        found.append(real(self, box))
        return found[-1]

    monkeypatch.setattr(images.Stored, "coefficients", watched)
    batches(url, "device", augment=None, workers=0)
    assert sum(one is not None for one in islice(found, 2 * PAIRS)) > 5


def test_unknown_words_are_refused(url: str) -> None:
    with pytest.raises(UserError, match="decode='gpu', expected auto or host or device"):
        batches(url, "gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", RECIPES)
def test_a_gpu_decodes_to_the_bits_of_the_host(url: str, name: str) -> None:
    options = {"augment": RECIPES[name], "device": "cuda"}
    assert_same(batches(url, "host", **options), batches(url, "auto", **options))
