"""Importing the library changes nothing of the user's process, and it needs no such change."""

import warnings

import pytest
from conftest import photograph, python
from PIL import Image

from recon.base.errors import RejectedImageError
from recon.image.codec import Picture, decode, decode_rgb, encode, image_size
from recon.image.opened import READABLE


def test_importing_leaves_pillow_and_the_warnings_as_they_are() -> None:
    script = (
        "import warnings, PIL.Image\n"
        "before = list(warnings.filters), PIL.Image.MAX_IMAGE_PIXELS\n"
        "import recon.image.codec, pack, train\n"
        "from train import PairLoader\n"
        "after = list(warnings.filters), PIL.Image.MAX_IMAGE_PIXELS\n"
        "added = [one for one in after[0] if one not in before[0]]\n"
        "ours = [one for one in added if one[3] and 'PIL' in one[3].pattern]\n"
        "assert not ours, ours\n"
        "assert before[1] == after[1], after[1]\n"
    )
    result = python(script)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("codec", "limit"), [("png", 1000), ("png", 2000), ("webp", 2000)])
def test_pillows_limit_on_pixels_is_not_asked(
    codec: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = photograph(40, 60, 0)
    data = encode(pixels, Picture(pixels=pixels, codec=codec), codec)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (decode(data, max_pixels=2400).pixels == pixels).all()
        assert (decode_rgb(data) == pixels).all()
        assert image_size(data, max_pixels=2400) == (40, 60)


def test_a_webp_that_pillow_refuses_is_rejected_with_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = photograph(40, 60, 0)
    data = encode(pixels, Picture(pixels=pixels, codec="webp"), "webp")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # it raises above twice of it
    try:
        assert (decode(data, max_pixels=2400).pixels == pixels).all()  # before Pillow 13
    except RejectedImageError as error:
        told = str(error)
        assert "MAX_IMAGE_PIXELS" in told


def test_every_readable_format_is_known_from_the_start() -> None:
    script = (
        "import sys, PIL.Image, recon.image.opened as opened\n"
        "sys.exit(not set(opened.READABLE) <= set(PIL.Image.OPEN))"
    )
    assert python(script).returncode == 0
    assert READABLE
