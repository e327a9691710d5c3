"""`--generations`: reconstructions of reconstructions, as if each had been saved and read again."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import photograph, save
from several_fakes import pack_fakes, write_autoencoders

from pack.dataset.dataset import iterate_pairs, open_dataset
from recon.base.errors import UserError
from recon.folder import FolderConfig, reconstruct_folder
from recon.models.config import ReconstructionConfig
from recon.models.load import load
from recon.reconstruct import reconstruct


def run(source: Path, out: Path, **options: Any) -> Path:
    given: dict[str, Any] = {"autoencoder": "tiny", "threads": 1, "batch_size": 1} | options
    assert reconstruct_folder(FolderConfig(source=str(source), out=str(out), **given)) == 0
    return out


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(3):
        save(tmp_path / f"photos/{number}.png", photograph(40, 56 - number, number))
    return tmp_path / "photos"


def test_two_generations_are_a_reconstruction_of_the_reconstruction(source: Path, tmp_path: Path) -> None:
    once = run(source, tmp_path / "once")
    again = run(once, tmp_path / "again")
    both = run(source, tmp_path / "both", generations=2)
    for path in source.iterdir():
        assert (both / path.name).read_bytes() == (again / path.name).read_bytes()
        assert (both / path.name).read_bytes() != (once / path.name).read_bytes()


def test_the_number_is_recorded_where_it_is_above_one(source: Path, tmp_path: Path) -> None:
    for generations in (1, 2):
        out = run(source, tmp_path / str(generations), generations=generations)
        record = json.loads((out / "reconstruction.json").read_text())
        assert record.get("generations", 1) == generations
        assert ("generations" in record) == (generations > 1)
    with pytest.raises(UserError, match="generations"):
        run(source, tmp_path / "1", generations=2)
    with pytest.raises(UserError, match="generations=0, expected at least 1"):
        run(source, tmp_path / "0", generations=0)


def test_packing_makes_and_records_generations(source: Path, tmp_path: Path) -> None:
    made = run(source, tmp_path / "both", generations=2)
    for generations in (1, 2):
        options: dict[str, Any] = {"codec": "lossless-png", "batch_size": 1, "generations": generations}
        out = pack_fakes(source, tmp_path / f"packed{generations}", "tiny", 1, **options)
        provenance = open_dataset(str(out)).manifest.provenance
        for part in (provenance["autoencoder"], provenance["options"]):
            assert part.get("generations", 1) == generations
            assert ("generations" in part) == (generations > 1)
        fakes = [pair.fake for pair in iterate_pairs(str(out))]
        ready = [(made / f"{number}.png").read_bytes() for number in range(3)]
        assert (fakes == ready) == (generations == 2)


def test_each_generation_draws_its_own_posterior_sample(tmp_path: Path) -> None:
    folder = write_autoencoders(tmp_path).split(",")[0]
    options: dict[str, Any] = {"autoencoder": folder, "posterior": "sample", "threads": 1}
    one, two = (load(ReconstructionConfig(**options, generations=number)) for number in (1, 2))
    images, keys = [photograph(16, 24, 0)], ["a"]
    [first] = reconstruct(one, images, keys, 1)
    [same_noise] = reconstruct(one, [first], keys, 1)
    [other_noise] = reconstruct(one, [first], ["a\ngeneration 2"], 1)
    [found] = reconstruct(two, images, keys, 1)
    assert (found == other_noise).all()
    assert (found != same_noise).any()
