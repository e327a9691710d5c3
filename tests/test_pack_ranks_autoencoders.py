"""Several autoencoders in one run: each photograph goes to one of them, or to every one."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import photograph, save
from pack_runs import config, files, pack_rank

from pack.dataset.dataset import open_dataset
from pack.dataset.selection import select
from pack.inspect.verify import verify
from pack.publish.packing import pack


def columns(out: Path) -> list[dict[str, Any]]:
    dataset = open_dataset(str(out))
    tables = [dataset.table(shard) for shard in range(len(dataset.manifest.shards))]
    return [row for table in tables for row in table.to_pylist()]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photographs of four tiles each."""
    source = tmp_path_factory.mktemp("tiles") / "photos"
    for number in range(12):
        save(source / f"{number:02}.png", photograph(32, 32, number))
    return source


@pytest.mark.parametrize("mode", ["deal", "each"])
def test_ranks_of_several_autoencoders_give_the_bytes_of_one_process(
    tiles: Path, tmp_path: Path, mode: str
) -> None:
    options = {"autoencoder": "identity,tiny", "autoencoder_mode": mode, "tile": 16, "threads": 1}
    pack(config(tiles, tmp_path / "one", shard_pairs=7, **options))
    for rank in (1, 0):
        pack_rank(tiles, tmp_path / "two", rank, 2, shard_pairs=7, **options)
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert list(verify(open_dataset(str(tmp_path / "two")))) == []
    made_by = open_dataset(str(tmp_path / "two")).manifest.provenance["autoencoder"]
    assert [one["autoencoder"] for one in made_by] == ["identity", "tiny"]


def test_deal_gives_each_photograph_with_all_its_tiles_to_one_autoencoder(
    tiles: Path, tmp_path: Path
) -> None:
    pack(config(tiles, tmp_path / "out", autoencoder="identity,tiny", tile=16, threads=1))
    rows = columns(tmp_path / "out")
    assert len(rows) == 48
    dealt = {(row["path"], row["autoencoder"]) for row in rows}
    assert len(dealt) == 12
    assert min(Counter(name for _, name in dealt).values()) >= 3
    pack(config(tiles, tmp_path / "some", autoencoder="identity,tiny", tile=16, threads=1, limit=5))
    assert {(row["path"], row["autoencoder"]) for row in columns(tmp_path / "some")} < dealt
    pack(config(tiles, tmp_path / "alone", tile=16, threads=1))
    assert {row["key"] for row in columns(tmp_path / "alone")} == {row["key"] for row in rows}


def test_each_makes_a_pair_with_every_autoencoder_side_by_side(tiles: Path, tmp_path: Path) -> None:
    options = {"autoencoder": "identity,tiny", "autoencoder_mode": "each", "tile": 16, "threads": 1}
    pack(config(tiles, tmp_path / "out", limit=3, **options))
    rows = columns(tmp_path / "out")
    assert [row["autoencoder"] for row in rows] == ["identity", "tiny"] * 12
    assert len({row["key"] for row in rows}) == len({row["pair_id"] for row in rows}) == 24
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert all(first[name] == second[name] for name in ("path", "tile_y", "tile_x", "real_crc32"))
        assert first["weights_sha256"] != second["weights_sha256"]


@pytest.mark.parametrize("mode", ["deal", "each"])
def test_pairs_of_one_of_several_autoencoders_are_those_of_packing_by_it_alone(
    tiles: Path, tmp_path: Path, mode: str
) -> None:
    """Their pixels; the keys too where photographs are dealt."""
    pack(config(tiles, tmp_path / "tiny", autoencoder="tiny", threads=1, batch_size=1))
    options = {"autoencoder": "identity,tiny", "autoencoder_mode": mode, "threads": 1, "batch_size": 1}
    pack(config(tiles, tmp_path / "both", **options))
    alone = {row["path"]: row["fake_crc32"] for row in columns(tmp_path / "tiny")}
    mixed = [row for row in columns(tmp_path / "both") if row["autoencoder"] == "tiny"]
    assert mixed
    assert all(row["fake_crc32"] == alone[row["path"]] for row in mixed)


def test_filter_selects_the_pairs_of_one_autoencoder(tiles: Path, tmp_path: Path) -> None:
    pack(config(tiles, tmp_path / "out", autoencoder="identity,tiny", tile=16, threads=1))
    expected = [row["autoencoder"] == "tiny" for row in columns(tmp_path / "out")]
    chosen = select(open_dataset(str(tmp_path / "out")), 'autoencoder == "tiny"')
    assert chosen.counts.sum() == sum(expected) > 0
