"""What packing says while it runs and at its end: counts of images, and what an option would win."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from conftest import photograph, save
from pack_runs import config
from PIL import Image

from pack.dataset.dataset import open_dataset
from pack.plan.plan import make_plan
from pack.publish.dry_run import dry_run
from pack.publish.packing import pack
from pack.sources import find_items
from recon.folder import FolderConfig, reconstruct_folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A photograph, four images that only --convert accepts, and one that nothing does."""
    source = tmp_path / "photos"
    save(source / "good.jpg", photograph(24, 24, 0))
    for number in range(3):
        Image.fromarray(photograph(8, 9, number)).convert("RGBA").save(source / f"alpha{number}.png")
    Image.fromarray(photograph(8, 9, 3)).quantize(8).save(source / "palette.png")
    (source / "empty.png").write_bytes(b"")
    return source


WON = "; up to 4 images more with --convert true (3 alpha, 1 palette)"


def test_plan_records_the_packages_that_read_other_formats_where_they_are_installed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "pillow-jxl-plugin":
            raise PackageNotFoundError(name)
        return f"{name}-1"

    monkeypatch.setattr("pack.plan.plan.version", version)
    options = config(source, tmp_path, shard_pairs=4)
    libraries = make_plan(find_items(options)[None], options, [{}]).provenance["libraries"]
    assert libraries["pillow-heif"] == "pillow-heif-1"
    assert "pillow-jxl-plugin" not in libraries


def told(caplog: pytest.LogCaptureFixture, beginning: str) -> str:
    (line,) = [text for text in caplog.messages if text.startswith(beginning)]
    return line


def test_lines_count_images_and_say_what_convert_would_win(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Two pairs of each photograph: a rejected one is one image all the same.
    options: dict[str, Any] = {"autoencoder": "identity,tiny", "autoencoder_mode": "each"}
    with caplog.at_level("INFO"):
        pack(config(source, tmp_path / "out", **options))
    last, progress = caplog.messages[-1], told(caplog, "pack: ")
    assert last.startswith("5 images rejected, listed in ")
    assert "3x alpha image, expected 8-bit RGB or grey; add --convert true; 1x " in last
    assert last.endswith(WON)
    assert progress.startswith("pack: 12/12 items, ")
    assert progress.endswith(", 10 rejected")
    caplog.clear()
    with caplog.at_level("INFO"):
        pack(config(source, tmp_path / "all", convert=True, **options))
    assert caplog.messages[-1].endswith(
        "1 image rejected, listed in " + f"{tmp_path}/all/rejected.jsonl: 1x zero bytes"
    )
    assert open_dataset(str(tmp_path / "all")).manifest.pairs == 2 * (1 + 4)  # as promised


def test_dry_run_and_reconstructing_say_it_too(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run(config(source, tmp_path / "out", dry_run=True))
    assert WON in capsys.readouterr().out
    options = FolderConfig(source=str(source), out=str(tmp_path / "fakes"), autoencoder="identity", threads=1)
    with caplog.at_level("INFO"):
        assert reconstruct_folder(options) == 0
    assert caplog.messages[-1].endswith(f"5 rejected (causes in {tmp_path}/fakes/rejected.jsonl){WON}")
    assert told(caplog, "reconstruct: ").endswith(", 5 rejected")


def test_resumed_run_counts_what_the_first_one_rejected(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"shard_pairs": 1, "rank": 0, "world_size": 2}
    pack(config(source, tmp_path / "out", **options))
    (tmp_path / "out/shard-000002.empty").unlink()
    with caplog.at_level("INFO"):
        pack(config(source, tmp_path / "out", **options))
    progress = told(caplog, "pack rank 0: ")
    assert progress.startswith("pack rank 0: 3/3 items, ")
    assert progress.endswith(", 2 rejected")


def test_closing_line_says_whose_real_images_alone_have_traces(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("AVIF", "avif", {}),
        ("AVIF", "jpg", {}),
        ("JPEG2000", "jp2", {"irreversible": True}),
        ("JPEG2000", "jp2", {}),  # the wavelet that loses nothing
        ("WEBP", "webp", {}),
        ("WEBP", "webp", {}),
        ("WEBP", "webp", {"lossless": True}),
    ]
    for number, (codec, suffix, options) in enumerate(kinds):
        Image.fromarray(photograph(8, 9, number)).save(source / f"{number}.{suffix}", codec, **options)
    traced = "2 of avif, 1 of jpeg2000, 2 of lossy WebP among 8 pairs: only their real images have the traces"
    for rank in range(2):  # the second tells of the first's shards too
        assert traced not in caplog.text
        pack(config(source, tmp_path / "out", shard_pairs=2, rank=rank, world_size=2))
    assert told(caplog, traced)
    caplog.clear()
    pack(config(source, tmp_path / "both", codec="both"))
    assert traced not in caplog.text


def test_lossy_webp_is_told_of_unless_its_reconstruction_is_one_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder, suffix in (("real", "webp"), ("webp", "webp"), ("png", "png")):
        save(tmp_path / f"{folder}/a.{suffix}", photograph(24, 24, 0))
    traced = "1 of lossy WebP among 1 pair: only their real images have the traces"
    runs: dict[str, tuple[dict[str, Any], bool]] = {
        "match": ({}, True),
        "lossless-png": ({"codec": "lossless-png"}, True),
        "both": ({"codec": "both"}, False),
        "tile": ({"tile": 24}, True),
        "keep PNG": ({"codec": "keep", "reconstructions": str(tmp_path / "png")}, True),
        "keep WebP": ({"codec": "keep", "reconstructions": str(tmp_path / "webp")}, False),
    }
    for name, (options, warned) in runs.items():
        caplog.clear()
        pack(config(tmp_path / "real", tmp_path / name, **options))
        assert any(line.startswith(traced) for line in caplog.messages) == warned, name
