"""The images of a sample give the same pixels, whether all or a part of them is decoded."""

from typing import Any

import numpy as np
import pytest
from conftest import photograph, python
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recon_jpeg import jpeg

from pack.dataset.pairs import StoredPair
from pack.shard.hints import Hint
from recon.base.errors import UserError
from recon.image.codec import decode_rgb
from recon.image.colours import EQUAL, colours_of, palette
from recon.jpeg.entries import entries_of
from train.draws.config import AugmentConfig
from train.stream.samples import Sample, sample_of
from train.window import images as module
from train.window.cutter import WindowCutter
from train.window.geometry import cut, cut_out, needed
from train.window.images import Decoded, Stored, UndecodableError
from train.window.masked_batch import Views
from train.window.resized import Resized

FILE = jpeg(300, 400, quality=92)
PIXELS = decode_rgb(FILE)
ENTRIES = entries_of(FILE)


def hint(data: bytes) -> Hint:
    return Hint(entries=entries_of(data), colours=colours_of(decode_rgb(data)).packed())


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that were decoded as a whole."""
    files = []

    def counted(data: bytes) -> Any:
        files.append(data)
        return decode_rgb(data)

    monkeypatch.setattr(module, "decode_rgb", counted)
    return files


def test_a_small_part_is_decoded_alone_and_a_large_one_with_all(decoded: list[bytes]) -> None:
    image = Stored(FILE, "real", hint(FILE))
    assert image.size == (300, 400)
    small = image.part((40, 50, 64, 64))
    assert not decoded
    large = image.part((0, 10, 300, 300))
    assert decoded == [FILE]
    np.testing.assert_array_equal(small, PIXELS[40:104, 50:114])
    np.testing.assert_array_equal(large, PIXELS[:, 10:310])
    image.part((3, 3, 200, 100))
    assert decoded == [FILE]


def test_several_parts_are_cut_out_of_all_where_that_is_cheaper(decoded: list[bytes]) -> None:
    Stored(FILE, "real", hint(FILE), parts=30).part((40, 50, 64, 64))
    assert decoded == [FILE]


@pytest.mark.parametrize(
    "index",
    [
        None,
        Hint(entries=None, colours=None),
        Hint(entries=b"", colours=None),
        Hint(entries=b"\x08\x7f", colours=None),
    ],
)
def test_without_sound_entries_all_is_decoded(index: Hint | None, decoded: list[bytes]) -> None:
    image = Stored(FILE, "real", index)
    np.testing.assert_array_equal(image.part((1, 2, 30, 40)), PIXELS[1:31, 2:42])
    np.testing.assert_array_equal(image.palette()[0], palette(PIXELS))
    assert decoded == [FILE]


def test_entries_of_another_photograph_change_no_pixel() -> None:
    other = entries_of(jpeg(300, 400, quality=92, number=5))
    found = Stored(FILE, "real", Hint(entries=other, colours=None)).part((100, 0, 80, 160))
    np.testing.assert_array_equal(found, PIXELS[100:180, :160])


def test_the_colours_of_the_index_are_those_of_the_pixels(decoded: list[bytes]) -> None:
    image, box = Stored(FILE, "real", hint(FILE)), (30, 40, 200, 150)
    found = Resized(image, box, (256, 256), "bilinear").palette()
    expected = Resized(Decoded(PIXELS), box, (256, 256), "bilinear").palette()
    for one, other in zip((*image.palette(), *found), (palette(PIXELS), EQUAL, *expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not decoded


def test_a_part_of_a_resized_crop_needs_no_more_than_a_part_of_the_image(decoded: list[bytes]) -> None:
    box, part = (30, 40, 200, 150), (60, 80, 97, 120)
    found = Resized(Stored(FILE, "real", hint(FILE)), box, (256, 256), "bilinear").part(part)
    np.testing.assert_array_equal(found, Resized(Decoded(PIXELS), box, (256, 256), "bilinear").part(part))
    assert not decoded


def test_a_broken_file_is_named_when_its_pixels_are_asked_for() -> None:
    with pytest.raises(UndecodableError, match="fake"):
        Stored(b"\xff\xd8\xff", "fake", None)
    hurt = FILE[:-9000]
    with pytest.raises(UndecodableError, match="real"):
        Stored(hurt, "real", hint(FILE)).part((0, 0, 300, 400))


SIDES = st.integers(1, 60)
PLACES = st.tuples(st.integers(-70, 70), st.integers(-70, 70), st.integers(1, 90), st.integers(1, 90))


@given(SIDES, SIDES, PLACES)
@settings(max_examples=300, deadline=None)
def test_a_box_depends_on_its_part_alone(height: int, width: int, place: tuple[int, int, int, int]) -> None:
    pixels = photograph(height, width, 1)
    box = needed((height, width), place)
    assert 0 <= box[0] <= box[0] + box[2] <= height
    assert 0 <= box[1] <= box[1] + box[3] <= width
    np.testing.assert_array_equal(cut_out(Decoded(pixels), place), cut(pixels, place))


def pair(real: bytes, fake: bytes, number: int, *, hints: bool) -> Sample:
    members = {"real.jpg": real, "fake.jpg": fake}
    known = {"real": hint(real), "fake": hint(fake)} if hints else {}
    stored = StoredPair(key=f"k{number}", url="u", group="", pair_id=number, members=members, hints=known)
    sample = sample_of(stored, 0, number)
    assert isinstance(sample, dict)
    return sample


RECIPES = {
    "published": AugmentConfig(),
    "views": AugmentConfig(views=3, crop=48),
    "chains": AugmentConfig(
        crop=48, degrade=[{"p": 0.5, "chain": [{"jpeg": {"quality": 50}}]}], pre_crop_p=0.5, pre_crop_side=99
    ),
    "mixtures": AugmentConfig(mix_p=0.5, frequency_mix_p=0.5, resized_crop_p=0.0),
    "clean": None,
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", [(300, 400), (90, 70), (521, 130)])
def test_every_recipe_s_windows_are_those_of_whole_images(name: str, size: tuple[int, int]) -> None:
    cutter = WindowCutter(RECIPES[name], side=64, seed=3, epoch=1)
    real, fake = jpeg(*size, quality=92, number=1), jpeg(*size, quality=92, number=2)
    one, other = (
        [cutter(one) for one in cutter.drawn(pair(real, fake, number, hints=hints) for number in range(12))]
        for hints in (True, False)
    )
    for found, expected in zip(one, other, strict=True):
        assert_equal(found, expected)


def assert_equal(found: Any, expected: Any) -> None:
    views: list[Views] = [found, expected]
    for view, plain in zip(*views, strict=True):
        np.testing.assert_array_equal(view.windows_PHWC, plain.windows_PHWC)
        assert (view.plan, view.grey_P, view.view_id) == (plain.plan, plain.grey_P, plain.view_id)


def test_bytes_of_a_user_s_stage_are_not_decoded_by_the_entries_of_others() -> None:
    stage = jpeg(300, 400, quality=92, number=7)
    sample = pair(FILE, FILE, 1, hints=True) | {"real.jpg": stage}
    cutter = WindowCutter(None, side=64, seed=0, epoch=0)
    (view,) = cutter(next(iter(cutter.drawn([sample]))))  # type: ignore[misc]
    real, fake = view.windows_PHWC
    np.testing.assert_array_equal(real, decode_rgb(stage)[118:182, 168:232])
    np.testing.assert_array_equal(fake, PIXELS[118:182, 168:232])


def test_other_sizes_of_the_two_are_refused_before_a_pixel_is_decoded(decoded: list[bytes]) -> None:
    sample = pair(FILE, jpeg(300, 401), 1, hints=True)
    cutter = WindowCutter(AugmentConfig(), side=64, seed=0, epoch=0)
    with pytest.raises(UserError, match="real and fake are 400x300 and 401x300"):
        cutter(next(iter(cutter.drawn([sample]))))
    assert not decoded


def test_images_that_are_decoded_whole_need_no_compiler() -> None:
    run = python(
        "import sys, numpy as np\n"
        "from recon.image.codec import Picture, encode\n"
        "from train.window.images import Stored\n"
        "pixels = np.zeros((20, 30, 3), np.uint8)\n"
        "image = Stored(encode(pixels, Picture(pixels=pixels, codec='png'), 'png'), 'real', None)\n"
        "image.part((1, 2, 3, 4)), image.palette(), image.coefficients((1, 2, 3, 4))\n"
        "sys.exit('numba' in sys.modules)\n"
    )
    assert run.returncode == 0, run.stderr
