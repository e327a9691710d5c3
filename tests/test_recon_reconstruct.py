"""Reconstructions keep size, order and grey, round, and refuse what is not finite."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from recon_images import config, noise, sizes

from recon import reconstruct as module
from recon.base.errors import UserError
from recon.models.load import load
from recon.models.types import Autoencoder, Identity, OutOfMemoryError
from recon.reconstruct import reconstruct, reconstruct_batch


class Stub:
    """An autoencoder that maps values by a function and remembers the shapes of its batches."""

    def __init__(self, change: Any = lambda x: x, multiple: int = 8) -> None:
        self.provenance = identity().provenance
        self.multiple = multiple
        self.only_side: int | None = None
        self.change = change
        self.shapes: list[tuple[int, ...]] = []

    def reconstruct_batch(self, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
        assert len(seeds) == len(x_BCHW)
        self.shapes.append(x_BCHW.shape)
        result: NDArray[np.float32] = self.change(x_BCHW)
        return result


def identity(multiple: int = 1) -> Autoencoder:
    loaded = load(config("identity"))
    return Identity(replace(loaded.provenance, downscale=multiple))


@settings(deadline=None, max_examples=100)
@given(shapes=st.lists(sizes, min_size=1, max_size=6), multiple=st.sampled_from((1, 2, 8, 16)))
def test_identity_gives_back_every_pixel_of_any_size(
    shapes: list[tuple[int, int, int]], multiple: int
) -> None:
    images = [noise(*shape, seed=index) for index, shape in enumerate(shapes)]
    fakes = reconstruct(identity(multiple), images, [str(index) for index in range(len(images))], 2)
    for image, fake in zip(images, fakes, strict=True):
        assert fake.dtype == np.uint8
        assert np.array_equal(fake, image)


def test_batches_hold_one_padded_size_in_input_order_and_at_most_batch_size() -> None:
    stub = Stub()
    images = [noise(*shape) for shape in ((8, 8), (9, 8), (7, 1), (16, 8), (1, 8), (8, 8))]
    reconstruct(stub, images, list("abcdef"), 3)
    assert stub.shapes == [(3, 3, 8, 8), (1, 3, 8, 8), (2, 3, 16, 8)]


def test_padding_reflects_and_replicates_where_an_image_is_too_small_to_reflect() -> None:
    seen: list[NDArray[np.float32]] = []
    stub = Stub(lambda x: seen.append(x) or x)
    column = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((5, 2, 3), np.uint8)
    column[:, 1] += 100
    reconstruct(stub, [column], ["key"], 1)
    grid = np.rint(seen[0][0, 0] * 255)
    assert grid[:, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert grid[0].tolist() == [0, 100, 100, 100, 100, 100, 100, 100]


def test_levels_are_rounded_not_truncated() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    for shift, step in ((0.4, 0), (-0.4, 0), (0.6, 1), (-0.6, -1)):
        stub = Stub(lambda x, shift=shift: x + np.float32(shift / 255))
        [fake] = reconstruct(stub, [pixels], ["key"], 1)
        assert np.array_equal(fake, np.clip(pixels.astype(int) + step, 0, 255))


def test_values_outside_0_to_1_are_clipped() -> None:
    [fake] = reconstruct(Stub(lambda x: x * 9 - 4), [noise(8, 8)], ["key"], 1)
    assert set(np.unique(fake)) >= {0, 255}


def test_grey_comes_back_as_the_luma_of_the_decoded_colours() -> None:
    tint = np.array([0.5, 0.25, 1.0], np.float32)[None, :, None, None]
    [fake] = reconstruct(Stub(lambda x: x * 0 + tint), [noise(8, 8, 1)], ["key"], 1)
    assert fake.shape == (8, 8, 1)
    assert (fake == round((0.299 * 0.5 + 0.587 * 0.25 + 0.114) * 255)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("dtype", "cure"),
    [
        ("float16", "it overflows: use --dtype bfloat16 or float32"),
        ("bfloat16", "use --dtype float32"),
        ("float32", "its weights may be damaged: fetch them again"),
    ],
)
def test_values_that_are_not_finite_are_an_error_that_names_the_image_and_the_cure(
    value: float, dtype: str, cure: str
) -> None:
    def spoil(x_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        x_BCHW[1, 0, 0, 0] = value
        return x_BCHW

    stub = Stub(spoil)
    stub.provenance = replace(stub.provenance, dtype=dtype)
    with pytest.raises(UserError, match=rf"reconstruction of 'b' is not finite in {dtype}; {cure}"):
        reconstruct(stub, [noise(8, 8)] * 2, ["a", "b"], 2)


def test_autoencoder_that_changes_the_size_is_an_error() -> None:
    with pytest.raises(UserError, match="doesn't undo the encoder's downscale"):
        reconstruct(Stub(lambda x: x[..., ::2]), [noise(8, 8)], ["key"], 1)


def test_identity_returns_the_images_as_they_are() -> None:
    images = [noise(5, 7), noise(5, 7, 1)]
    fakes = reconstruct_batch(identity(), images, ["a", "b"])
    assert all(fake is image for fake, image in zip(fakes, images, strict=True))


class Small(Stub):
    """An autoencoder that has memory for a number of images only."""

    def __init__(self, fits: int) -> None:
        super().__init__(lambda x: 1 - x)
        self.fits = fits

    def reconstruct_batch(self, x_BCHW: NDArray[np.float32], seeds: Sequence[int]) -> NDArray[np.float32]:
        result = super().reconstruct_batch(x_BCHW, seeds)
        if len(x_BCHW) > self.fits:
            raise OutOfMemoryError("no memory; lower --tiling_pixels")
        return result


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not warned of anything."""
    monkeypatch.setattr(module, "_told", set())


@pytest.mark.usefixtures("untold")
def test_batch_that_does_not_fit_runs_in_halves_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    stub = Small(fits=2)
    images = [noise(8, 8, seed=index) for index in range(7)]
    for _ in range(2):
        fakes = reconstruct_batch(stub, images, list("abcdefg"))
        assert all(np.array_equal(255 - fake, image) for fake, image in zip(fakes, images, strict=True))
    assert [shape[0] for shape in stub.shapes] == [7, 4, 2, 2, 3, 2, 1] * 2
    [message] = caplog.messages
    assert message.startswith("7 images of 8x8 don't fit into memory; half of them run at a time")


@pytest.mark.usefixtures("untold")
def test_single_image_that_does_not_fit_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UserError, match="lower --tiling_pixels"):
        reconstruct_batch(Small(fits=0), [noise(8, 8)] * 2, ["a", "b"])


def test_padding_follows_from_an_images_own_size() -> None:
    stub = Stub()
    images = [noise(1000, 520), noise(64, 33), noise(1000, 521)]
    reconstruct(stub, images, list("abc"), 1)
    assert stub.shapes == [(1, 3, 1008, 528), (1, 3, 64, 40), (1, 3, 1008, 528)]
