"""Whatever users hand in: one image's fault is listed with its cause, a user's mistake is one line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph, python, save
from image_files import file_of, png
from PIL import Image

from pack.command import main
from pack.dataset.dataset import iterate_pairs
from pack.dataset.pairs import StoredPair
from recon.image.codec import decode, decode_rgb

MAX_PIXELS = 5000


def odd_modes() -> dict[str, tuple[bytes, str]]:
    """File name to content and the kind that it is rejected as, unless --convert is given."""
    rgb = Image.fromarray(photograph(8, 8, 0))
    grey16 = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
    return {
        "cmyk.tif": (file_of(rgb.convert("CMYK"), "TIFF"), "CMYK"),
        "grey16.png": (file_of(grey16, "PNG"), "16-bit"),
        "rgb16.png": (png(np.full((8, 8, 3), 0x9234, np.uint16), 16, 2), "16-bit"),
        "palette.png": (file_of(rgb.quantize(8), "PNG"), "palette"),
        "alpha.png": (file_of(rgb.convert("RGBA"), "PNG"), "alpha"),
        "alpha.webp": (file_of(rgb.convert("RGBA").rotate(45), "WEBP", lossless=True), "alpha"),
        "grey-alpha.png": (file_of(rgb.convert("LA"), "PNG"), "alpha"),
    }


def broken() -> dict[str, tuple[bytes, str]]:
    """File name to content and a part of the cause that it is always rejected for."""
    jpeg = file_of(Image.fromarray(photograph(48, 48, 0)), "JPEG")
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    animation = file_of(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    return {
        "truncated.jpg": (jpeg[: len(jpeg) - 99], "broken or truncated jpeg: image file is truncated"),
        "header-only.jpg": (jpeg[:100], "not a readable image"),
        "empty.png": (b"", "zero bytes"),
        "text.jpg": (b"no photograph at all\n" * 9, "not a readable image (JPEG, PNG, WEBP, "),
        "bomb.png": (file_of(Image.new("RGB", (100, 80)), "PNG"), "100x80 exceeds max_pixels=5000"),
        "moving.webp": (animation, "several frames"),
        "icon-as.png": (file_of(frames[0], "ICO"), "not a readable image"),
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of one good photograph."""
    save(tmp_path / "photos/good.jpg", photograph(24, 24, 0))
    return tmp_path / "photos"


def status(monkeypatch: pytest.MonkeyPatch, source: Path, out: Path | str, *options: str) -> int:
    """Exit status of ``python -m pack``; a traceback fails the test."""
    made = [] if {"--reconstructions", "tree"} & {*options} else ["--autoencoder", "identity"]
    arguments = ["--source", str(source), "--out", str(out), *made, *options]
    monkeypatch.setattr(sys, "argv", ["pack", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


def packed_pairs(out: Path) -> dict[str, StoredPair]:
    return {json.loads(pair.members["json"])["path"]: pair for pair in iterate_pairs(str(out))}


def causes(out: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert all(set(line) == {"path", "tile", "cause"} for line in lines)
    return {line["path"]: line["cause"] for line in lines}


@pytest.mark.parametrize("name", [*broken(), *odd_modes()])
def test_bad_image_is_listed_with_its_cause_and_the_rest_is_packed(
    source: Path,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data, cause = (broken() | odd_modes())[name]
    (source / name).write_bytes(data)
    out = tmp_path / "out"
    with caplog.at_level("INFO"):
        assert status(monkeypatch, source, out, "--max_pixels", str(MAX_PIXELS)) == 0
    assert set(packed_pairs(out)) == {"good.jpg"}
    assert list(causes(out)) == [name]
    assert cause in causes(out)[name]
    if name in odd_modes():
        assert "expected 8-bit RGB or grey; add --convert true" in causes(out)[name]
    assert caplog.messages[-1].startswith(f"1 image rejected, listed in {out}/rejected.jsonl: 1x ")


def test_convert_packs_every_odd_mode_as_rgb_png_and_records_what_it_was(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (data, _) in odd_modes().items():
        (source / name).write_bytes(data)
    assert status(monkeypatch, source, tmp_path / "out", "--convert", "true") == 0
    assert not (tmp_path / "out/rejected.jsonl").exists()
    pairs = packed_pairs(tmp_path / "out")
    assert set(pairs) == {"good.jpg", *odd_modes()}
    for name, (data, kind) in odd_modes().items():
        real, fake = (
            decode(member, max_pixels=MAX_PIXELS) for member in (pairs[name].real, pairs[name].fake)
        )
        assert real.codec == fake.codec == "png"
        expected = decode(data, max_pixels=MAX_PIXELS, convert=True).pixels
        assert np.array_equal(real.pixels, expected)
        assert np.array_equal(fake.pixels, expected)
        assert json.loads(pairs[name].members["json"])["converted"] == kind


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1)])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_image_one_pixel_high_or_wide_packs(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], suffix: str
) -> None:
    save(source / f"thin.{suffix}", photograph(*shape, 1))
    assert status(monkeypatch, source, tmp_path / "out") == 0
    pair = packed_pairs(tmp_path / "out")[f"thin.{suffix}"]
    assert decode_rgb(pair.real).shape == decode_rgb(pair.fake).shape == (*shape, 3)


def test_image_below_min_side_is_rejected_with_its_size(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(source / "small.png", photograph(20, 30, 1))
    assert status(monkeypatch, source, tmp_path / "out", "--min_side", "24") == 0
    assert causes(tmp_path / "out") == {"small.png": "30x20 is below min_side=24"}


def test_file_that_cannot_be_read_is_rejected(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "gone.jpg").symlink_to(source / "nowhere")
    assert status(monkeypatch, source, tmp_path / "out") == 0
    assert causes(tmp_path / "out") == {"gone.jpg": "can't be read: No such file or directory"}


def test_side_that_the_codec_cannot_hold_is_rejected(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (16_384, 1)).save(source / "wide.png")
    assert status(monkeypatch, source, tmp_path / "out", "--codec", "lossless-webp") == 0
    assert causes(tmp_path / "out")["wide.png"].startswith("can't be stored as webp: ")


@pytest.mark.parametrize("codec", ["match", "keep"])
@pytest.mark.parametrize("suffix", ["bmp", "tif", "ppm"])
def test_image_that_the_loader_cannot_decode_is_stored_as_png(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, codec: str
) -> None:
    real, fake = photograph(9, 13, 0), photograph(9, 13, 1)
    save(tmp_path / f"real/a.{suffix}", real)
    save(tmp_path / f"fake/a.{suffix}", fake)
    options = ["--reconstructions", str(tmp_path / "fake"), "--codec", codec]
    assert status(monkeypatch, tmp_path / "real", tmp_path / "out", *options) == 0
    pair = packed_pairs(tmp_path / "out")[f"a.{suffix}"]
    assert list(pair.members) == ["real.png", "fake.png", "json"]
    assert np.array_equal(decode_rgb(pair.real), real)
    assert np.array_equal(decode_rgb(pair.fake), fake)


def test_reconstructions_of_odd_modes_are_converted_even_where_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (data, _) in odd_modes().items():
        (tmp_path / "fake").mkdir(exist_ok=True)
        (tmp_path / "fake" / f"{name}{Path(name).suffix}").write_bytes(data)
        save(tmp_path / "real" / f"{name}.png", photograph(8, 8, 5))
    options = ["--reconstructions", str(tmp_path / "fake"), "--codec", "keep", "--convert", "true"]
    assert status(monkeypatch, tmp_path / "real", tmp_path / "out", *options) == 0
    for pair in packed_pairs(tmp_path / "out").values():
        assert decode(pair.fake, max_pixels=MAX_PIXELS).codec == "png"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--autoencoder", "sd99"], "'sd99' is no directory, no file and no hub id"),
        (["--source", "/nowhere"], "source /nowhere is not a directory"),
        (["--reconstructions", "/nowhere"], "/nowhere is not a directory"),
        (["--layout", "tree"], "holds none of train, val, valid"),
        (["--tile", "12"], "tile=12, expected a multiple of 8"),
        (["--codec", "jpeg"], "codec"),
        (["--limit", "many"], "limit"),
        (["--seed", str(2**63)], "expected 0 <= seed < 2**63"),
        (["--threads", "99999999999"], "expected 0 (all cores) to 1024"),
        (["--group_column", "g"], "group_column is for layout=table, but layout=folder"),
        (["--autoencoder", "tiny", "--device", "meta"], "expected auto, cpu or cuda"),
        (["--nonsense", "1"], "nonsense"),
        (["--out", "nosuch://bucket/x"], "can't open nosuch://bucket/x"),
    ],
)
def test_mistake_is_one_line_with_status_2_and_nothing_is_written(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert status(monkeypatch, source, tmp_path / "out", *options) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "out").exists()


def test_source_without_images_is_one_line_with_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    assert status(monkeypatch, tmp_path / "photos", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("error: no images for the dataset in ")


def test_only_bad_images_are_one_line_with_status_2_and_no_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"")
    assert status(monkeypatch, tmp_path / "photos", tmp_path / "out") == 2
    assert capsys.readouterr().err.endswith(
        f"error: {tmp_path}/out: none of 1 images became a pair: 1x zero bytes\n"
    )
    assert not list((tmp_path / "out").iterdir())


def test_output_of_another_dataset_is_one_line_with_status_2(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(monkeypatch, source, tmp_path / "out") == 0
    assert status(monkeypatch, source, tmp_path / "out", "--codec", "lossless-png") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "holds another dataset" in errors[0]


def test_process_that_gives_up_a_shard_shows_one_line_and_no_traceback(source: Path, tmp_path: Path) -> None:
    script = (
        "from pack.command import main\n"
        "from pack.shard.writer import ShardWriter\n"
        "def full(*_): raise OSError(28, 'No space left on device')\n"
        "ShardWriter.add = full\n"
        "main()\n"
    )
    out = tmp_path / "out"
    result = python(script, "--source", source, "--out", out, "--autoencoder", "identity")
    assert result.returncode == 2
    named, progress, error = result.stderr.splitlines()
    assert named.startswith("every sample holds real.jpg and fake.jpg")
    assert progress.startswith("pack: ")
    assert error.startswith(f"error: disk full while writing {out}/shard-000000.tar")
    assert [path.name for path in out.iterdir()] == ["plan.json"]


def test_odd_metadata_warns_nobody_and_threads_leave_the_warning_filters_as_they_were() -> None:
    script = (
        "import warnings\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from io import BytesIO\n"
        "from PIL import Image\n"
        "from recon.base.cli import ignore_odd_metadata\n"
        "from recon.image.codec import decode\n"
        "ignore_odd_metadata()  # as our commands and workers do\n"
        "out, before = BytesIO(), list(warnings.filters)\n"
        "exif = b'Exif\\0\\0II*\\0\\x08\\0\\0\\0\\x05\\0\\x12\\x01\\x03\\0'  # cut short\n"
        "Image.new('RGB', (8, 8)).save(out, 'JPEG', exif=exif)\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    list(pool.map(lambda _: decode(out.getvalue(), max_pixels=64), range(1000)))\n"
        "assert warnings.filters == before\n"
    )
    result = python(script, options=("-W", "error"))
    assert (result.returncode, result.stderr) == (0, "")
