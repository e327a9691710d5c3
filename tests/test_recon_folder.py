"""`python -m recon`: mirrored names, what is done stays, what is wrong is said in one line."""

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recon import folder
from recon.base.errors import UserError
from recon.folder import FolderConfig, find_images, main, reconstruct_folder
from recon.image.codec import decode


def save(path: Path, *, seed: int = 0, size: tuple[int, int] = (9, 12), **options: Any) -> Path:
    """Writes an image of noise, its codec by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def config(source: Path, out: Path, **options: Any) -> FolderConfig:
    given = {"autoencoder": "identity", "threads": 1, "batch_size": 2} | options
    return FolderConfig(source=str(source), out=str(out), **given)


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file below `root`."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def images(root: Path) -> set[str]:
    return {name for name in files(root) if not name.startswith(("reconstruction.json", "rejected.jsonl"))}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_names_are_mirrored_and_0_real_becomes_1_fake(source: Path, out: Path) -> None:
    for name in ("train/sd/0_real/a.jpg", "0_real.png", "b c/dotted.v1.2.JPEG", "Grüße/写真.webp", "x..png"):
        save(source / name)
    reconstruct_folder(config(source, out))
    assert images(out) == {
        "train/sd/1_fake/a.png",
        "0_real.png",
        "b c/dotted.v1.2.png",
        "Grüße/写真.png",
        "x..png",
    }


def test_existing_fakes_in_the_source_are_no_source(source: Path, out: Path) -> None:
    save(source / "sd/0_real/a.png")
    save(source / "sd/1_fake/b.png")
    reconstruct_folder(config(source, out))
    assert images(out) == {"sd/1_fake/a.png"}


@pytest.mark.parametrize("codec", ["png", "webp"])
def test_identity_writes_the_pixels_orientation_and_profile_of_the_source(
    source: Path, out: Path, codec: Any
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(source / "a.jpg", exif=exif, icc_profile=b"profile" * 20)
    reconstruct_folder(config(source, out, format=codec))
    real, fake = (decode(file.read_bytes(), max_pixels=10**6) for file in (path, out / f"a.{codec}"))
    assert fake.codec == codec
    assert np.array_equal(fake.pixels, real.pixels)
    assert (fake.orientation, fake.icc) == (real.orientation, real.icc) == (6, b"profile" * 20)


def test_provenance_is_recorded(source: Path, out: Path) -> None:
    save(source / "a.png")
    reconstruct_folder(config(source, out))
    record = json.loads((out / "reconstruction.json").read_text())
    assert (record["autoencoder"], record["codec"], record["threads"]) == ("identity", "png", 1)


def test_second_run_changes_nothing(source: Path, out: Path) -> None:
    for index in range(5):
        save(source / f"{index}.png", seed=index)
    (source / "broken.png").write_bytes(b"no image")
    reconstruct_folder(config(source, out))
    before = files(out)
    reconstruct_folder(config(source, out))
    assert files(out) == before


def test_what_is_missing_is_made_and_the_rest_is_left_alone(source: Path, out: Path) -> None:
    for index in range(12):
        save(source / f"{index:02}.png", seed=index)
    reconstruct_folder(config(source, out))
    whole = files(out)
    for name in ("03.png", "11.png"):
        (out / name).unlink()
    reconstruct_folder(config(source, out))
    again = files(out)
    assert {name: data for name, (data, _) in again.items()} == {
        name: data for name, (data, _) in whole.items()
    }
    assert {name for name in whole if again[name] != whole[name]} == {"03.png", "11.png"}


def test_unreadable_images_are_listed_with_their_cause_and_the_rest_is_made(
    source: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = save(source / "good.png")
    (source / "cut.png").write_bytes(good.read_bytes()[:100])
    (source / "empty.jpg").write_bytes(b"")
    Image.new("CMYK", (8, 8)).save(source / "cmyk.jpg")
    save(source / "large.png", size=(40, 40))
    (source / "gone.png").symlink_to(source / "nowhere")
    with caplog.at_level("INFO"):
        assert reconstruct_folder(config(source, out, max_pixels=1000)) == 0
    lines = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    causes = {line["path"]: line["cause"] for line in lines}
    assert list(causes) == ["cmyk.jpg", "cut.png", "empty.jpg", "gone.png", "large.png"]
    for path, cause in {
        "cmyk.jpg": "CMYK",
        "cut.png": "truncated",
        "empty.jpg": "zero bytes",
        "gone.png": "can't be read: No such file",
        "large.png": "40x40 exceeds max_pixels=1000",
    }.items():
        assert cause in causes[path]
    assert images(out) == {"good.png"}
    assert "1 reconstructed, 0 already there, 5 rejected" in caplog.messages[-1]


def test_image_mended_after_its_rejection_is_made_and_no_longer_listed(source: Path, out: Path) -> None:
    save(source / "a.png")
    (source / "b.png").write_bytes(b"")
    reconstruct_folder(config(source, out))
    assert (out / "rejected.jsonl").exists()
    save(source / "b.png")
    reconstruct_folder(config(source, out))
    assert images(out) == {"a.png", "b.png"}
    assert not (out / "rejected.jsonl").exists()


def test_status_is_1_where_every_image_is_rejected(source: Path, out: Path) -> None:
    source.mkdir()
    (source / "a.png").write_bytes(b"")
    assert reconstruct_folder(config(source, out)) == 1


def test_convert_accepts_what_is_rejected_otherwise(source: Path, out: Path) -> None:
    source.mkdir()
    Image.new("CMYK", (8, 8)).save(source / "a.jpg")
    assert reconstruct_folder(config(source, out, convert=True)) == 0
    assert images(out) == {"a.png"}


def test_side_that_webp_cannot_hold_is_rejected(source: Path, out: Path) -> None:
    save(source / "wide.png", size=(1, 16384))
    assert reconstruct_folder(config(source, out, format="webp")) == 1
    assert "16383" in (out / "rejected.jsonl").read_text()


def test_grey_image_one_pixel_high_is_made_grey(source: Path, out: Path) -> None:
    source.mkdir()
    Image.new("L", (30, 1), 77).save(source / "a.png")
    reconstruct_folder(config(source, out))
    picture = decode((out / "a.png").read_bytes(), max_pixels=1000)
    assert picture.pixels.shape == (1, 30, 1)
    assert (picture.pixels == 77).all()


def test_two_sources_of_one_output_are_an_error_that_names_both(source: Path, out: Path) -> None:
    save(source / "a.jpg")
    save(source / "a.png")
    with pytest.raises(UserError, match=r"a\.jpg and a\.png .* would both become .*a\.png; rename one"):
        reconstruct_folder(config(source, out))
    assert not out.exists()


def test_missing_source_is_an_error(source: Path, out: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        reconstruct_folder(config(source, out))


def test_source_without_images_is_an_error(source: Path, out: Path) -> None:
    source.mkdir()
    (source / "notes.txt").write_text("none")
    with pytest.raises(UserError, match=r"no images in .*\.jpg, \.jpeg, .*\.png"):
        reconstruct_folder(config(source, out))


@pytest.mark.parametrize(("source_name", "out_name"), [("a", "a/b"), ("a/b", "a")])
def test_folders_inside_each_other_are_an_error(tmp_path: Path, source_name: str, out_name: str) -> None:
    save(tmp_path / source_name / "x.png")
    with pytest.raises(UserError, match="contains the other"):
        reconstruct_folder(config(tmp_path / source_name, tmp_path / out_name))


def test_tree_of_0_real_folders_is_completed_in_place(source: Path) -> None:
    save(source / "train/sd/0_real/a.png")
    for _ in range(2):
        reconstruct_folder(config(source, source))
    assert images(source) == {"train/sd/0_real/a.png", "train/sd/1_fake/a.png"}


def test_in_place_without_0_real_folder_is_an_error(source: Path) -> None:
    save(source / "a.png")
    with pytest.raises(UserError, match=r"a\.png is not in a 0_real folder"):
        reconstruct_folder(config(source, source))


def test_output_of_another_provenance_is_refused_and_left_alone(source: Path, out: Path) -> None:
    save(source / "a.png")
    reconstruct_folder(config(source, out))
    before = files(out)
    with pytest.raises(
        UserError, match=r"was made with other options: dtype 'float32', now 'bfloat16'; give another"
    ):
        reconstruct_folder(config(source, out, dtype="bfloat16"))
    assert files(out) == before


def test_output_that_somebody_else_made_is_refused(source: Path, out: Path) -> None:
    save(source / "a.png")
    save(out / "a.png", seed=1)
    with pytest.raises(UserError, match=r"a\.png exists, but .* has no reconstruction\.json"):
        reconstruct_folder(config(source, out))


@pytest.mark.parametrize("record", ["{", "[1]"])
def test_broken_record_is_one_clear_line(source: Path, out: Path, record: str) -> None:
    save(source / "a.png")
    out.mkdir()
    (out / "reconstruction.json").write_text(record)
    with pytest.raises(UserError, match=r"reconstruction\.json"):
        reconstruct_folder(config(source, out))


def test_full_disk_is_one_line_and_leaves_nothing_half_written(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        save(source / f"{index}.png", seed=index)
    synced = 0

    def fsync(_: int) -> None:
        nonlocal synced
        synced += 1
        if synced == 3:  # the record, the first image, then
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match=r"can't write .*1\.png: No space left on device"):
        reconstruct_folder(config(source, out))
    assert set(files(out)) == {"reconstruction.json", "0.png"}
    monkeypatch.undo()
    reconstruct_folder(config(source, out))
    assert images(out) == {"0.png", "1.png", "2.png"}


def test_output_that_is_a_file_is_one_clear_line(source: Path, out: Path) -> None:
    save(source / "a.png")
    out.write_text("a file")
    with pytest.raises(UserError, match="can't write"):
        reconstruct_folder(config(source, out))


def test_find_images_follows_links_to_files_and_leaves_out_hidden_ones(source: Path, tmp_path: Path) -> None:
    elsewhere = save(tmp_path / "elsewhere.png")
    for name in ("b/z.PNG", "a.tiff", ".hidden.png", ".cache/a.png", "b/.hidden.jpg"):
        save(source / name)
    (source / "b" / "link.png").symlink_to(elsewhere)
    (source / "loop").symlink_to(source)
    (source / "png").write_text("no suffix")
    assert find_images(source) == ["a.tiff", "b/link.png", "b/z.PNG"]


def test_command_exits_0_when_done_and_2_on_the_users_mistake(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(source / "a.png")
    arguments = ["--source", str(source), "--out", str(out), "--autoencoder", "identity"]
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 0
    with pytest.raises(SystemExit) as refused:
        main([*arguments, "--seed", "7"])
    assert refused.value.code == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize("wrong", [["--format", "jpeg"], ["--batch_size", "0"], ["--nonsense", "1"]])
def test_wrong_option_exits_2(source: Path, out: Path, wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["--source", str(source), "--out", str(out), *wrong])
    assert refused.value.code == 2


def test_unknown_autoencoder_is_told_before_anything_is_written(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(source / "a.png")
    with pytest.raises(SystemExit) as refused:
        main(["--source", str(source), "--out", str(out), "--autoencoder", "sd99"])
    assert refused.value.code == 2
    assert "'sd99' is no directory, no file and no hub id" in capsys.readouterr().err
    assert not out.exists()


def test_help_imports_no_torch_and_names_the_command() -> None:
    script = (
        "import runpy, sys; sys.argv = ['recon', '--help']\n"
        "try: runpy.run_module('recon', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code; assert 'torch' not in sys.modules\n"
        "else: raise AssertionError"
    )
    result = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "python -m recon" in result.stdout
    for option in ("--source", "--out", "--autoencoder", "--format", "--posterior"):
        assert option in result.stdout


def test_progress_logs_seldom_and_closes_with_the_count_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.base import progress

    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level("INFO"):
        assert list(progress.progress(range(30), total=30, unit="images", what="read")) == list(range(30))
    assert len(caplog.messages) == 3
    assert caplog.messages[0].startswith("read: 10/30 images, ")
    assert caplog.messages[0].endswith(" left")
    assert caplog.messages[-1].startswith("read: 30/30 images, ")


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from recon.base.progress import Progress

    class Terminal(BytesIO):
        encoding = "utf-8"
        text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: Any) -> int:
            self.text += text
            return len(text)

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(total=3, unit="images", what="read") as shown:
        shown.note("loss .5")
        shown.update(3)
    assert "read: 100%" in terminal.text
    assert "3/3" in terminal.text
    assert "loss .5" in terminal.text


def test_written_image_appears_under_its_name_only_when_whole(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(source / "a.png")
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append({path.name for path in out.iterdir()}))
    reconstruct_folder(config(source, out))
    assert all("a.png" not in names for names in seen)
    assert (out / "a.png").exists()
    assert folder.RECORD in seen[-1]
