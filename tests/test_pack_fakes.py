"""Several fakes of one photograph: `python -m pack --fakes_per_real`."""

import gc
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st
from pack_runs import config, files, interrupted, pack_rank
from several_fakes import NAMES, pack_fakes, rows_of, write_autoencoders, write_photographs

from pack.adopt.adopt import adopt
from pack.adopt.config import IndexConfig
from pack.base.config import PackConfig
from pack.dataset.dataset import iterate_pairs, open_dataset
from pack.dataset.fakes import each_fake
from pack.inspect import preview
from pack.inspect.info import describe
from pack.inspect.verify import verify
from pack.publish.dry_run import dry_run
from pack.publish.packing import pack
from pack.shard.writer import ShardWriter
from recon.base.errors import UserError
from recon.image.codec import decode
from recon.image.drawing import fitted


@pytest.fixture(scope="module")
def autoencoders(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_autoencoders(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("source") / "photos")


@pytest.fixture(scope="module")
def packed(photos: Path, autoencoders: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three fakes of each photograph; to be read only."""
    return pack_fakes(photos, tmp_path_factory.mktemp("packed") / "all", autoencoders, "all")


def makers(row: dict[str, Any]) -> list[str]:
    return [row["autoencoder"], *(one["autoencoder"] for one in row["more_fakes"])]


def test_each_photograph_has_each_autoencoders_fake_once(packed: Path, photos: Path) -> None:
    rows = rows_of(packed)
    assert [row["path"] for row in rows] == sorted(path.name for path in photos.iterdir())
    assert all(sorted(makers(row)) == sorted(NAMES) for row in rows)
    assert len({row["autoencoder"] for row in rows}) == 3, "which one comes first is dealt"
    assert list(verify(open_dataset(str(packed)))) == []


def test_fakes_are_those_that_each_autoencoder_makes_alone(
    photos: Path, autoencoders: str, tmp_path: Path
) -> None:
    """Fewer fakes a sample are the first of more, so the first ones are those of dealt photographs."""
    options: dict[str, Any] = {"batch_size": 1}
    every = pack_fakes(photos, tmp_path / "all", autoencoders, "all", **options)
    for fakes in (1, 2):
        some = pack_fakes(photos, tmp_path / str(fakes), autoencoders, fakes, **options)
        for one, other in zip(iterate_pairs(str(some)), iterate_pairs(str(every)), strict=True):
            assert (one.key, one.fakes) == (other.key, other.fakes[:fakes])
            assert len({*other.fakes}) == 3
    for folder in autoencoders.split(","):
        alone = pack_fakes(photos, tmp_path / Path(folder).name, folder, 1, **options)
        expected = {pair.key: pair.fake for pair in iterate_pairs(str(alone))}
        for row, pair in zip(rows_of(every), iterate_pairs(str(every)), strict=True):
            assert pair.fakes[makers(row).index(Path(folder).name)] == expected[pair.key]


@pytest.mark.parametrize(
    "options", [{}, {"codec": "lossless-png"}, {"codec": "both"}, {"fields": "by_codec"}]
)
def test_every_fake_is_coded_and_named_as_the_first(
    photos: Path, autoencoders: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    out = pack_fakes(photos, tmp_path / "out", autoencoders, "all", **options)
    assert list(verify(open_dataset(str(out)))) == []
    for row, pair in zip(rows_of(out), iterate_pairs(str(out)), strict=True):
        pictures = [decode(data, max_pixels=10**6) for data in pair.fakes]
        assert {picture.codec for picture in pictures} == {row["fake_codec"]}
        assert {one["codec"] for one in row["more_fakes"]} == {row["fake_codec"]}
        assert len({picture.jpeg and picture.jpeg.tables_hash for picture in pictures}) == 1
        names = [row["fake_field"], *(one["field"] for one in row["more_fakes"])]
        suffix = row["fake_field"].partition(".")[2]
        assert names == [f"fake.{suffix}", f"fake2.{suffix}", f"fake3.{suffix}"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its tars to the collector
def test_names_and_json_are_the_same_in_every_sample_for_plain_webdataset(packed: Path) -> None:
    tars = sorted(map(str, packed.glob("*.tar")))
    samples = list(wds.WebDataset(tars, shardshuffle=False))
    gc.collect()
    names = ["real.jpg", "fake.jpg", "fake2.jpg", "fake3.jpg", "json"]
    assert all([name for name in one if "__" not in name] == names for one in samples)
    records = [json.loads(one["json"]) for one in samples]
    assert len({tuple((key, type(value)) for key, value in record.items()) for record in records}) == 1
    kept = ("field", "codec", "autoencoder", "weights_sha256", "dtype", "posterior", "seed")
    for record, row in zip(records, rows_of(packed), strict=True):
        for one, other in zip(record["more_fakes"], row["more_fakes"], strict=True):
            assert one == {name: other[name] for name in kept} | {"revision": ""}
    assert open_dataset(str(packed)).manifest.fields == {
        name: f"{name}.jpg" for name in ("real", "fake", "fake2", "fake3")
    }


def test_posterior_samples_of_one_autoencoder_differ_by_their_seeds(
    photos: Path, autoencoders: str, tmp_path: Path
) -> None:
    one = autoencoders.split(",")[0]
    options: dict[str, Any] = {"posterior": "sample", "seed": 5, "batch_size": 1}
    out = pack_fakes(photos, tmp_path / "three", one, 3, **options)
    assert list(verify(open_dataset(str(out)))) == []
    for row in rows_of(out):
        assert [row["seed"], *(fake["seed"] for fake in row["more_fakes"])] == [5, 6, 7]
    alone = pack_fakes(photos, tmp_path / "alone", one, 1, **options | {"seed": 6})
    for pair, other in zip(iterate_pairs(str(out)), iterate_pairs(str(alone)), strict=True):
        assert len({*pair.fakes}) == 3
        assert pair.fakes[1] == other.fake


@settings(max_examples=4)
@given(world=st.integers(2, 5), fakes=st.integers(2, 3), seed=st.randoms(use_true_random=False))
def test_any_number_of_ranks_writes_the_bytes_of_one(
    photos: Path,
    autoencoders: str,
    tmp_path_factory: pytest.TempPathFactory,
    world: int,
    fakes: int,
    seed: Any,
) -> None:
    root = tmp_path_factory.mktemp("ranks")
    options: dict[str, Any] = {"autoencoder": autoencoders, "fakes_per_real": fakes, "threads": 1}
    pack(config(photos, root / "one", shard_pairs=3, **options))
    order = list(range(world))
    seed.shuffle(order)
    for rank in order:
        pack_rank(photos, root / "many", rank, world, shard_pairs=3, **options)
    assert files(root / "many") == files(root / "one")


def test_a_stopped_run_continues_to_the_same_bytes(
    packed: Path, photos: Path, autoencoders: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"autoencoder": autoencoders, "fakes_per_real": "all", "threads": 1}
    for stops, at in enumerate((2, 6, 9)):
        out = tmp_path / str(stops)
        assert interrupted(config(photos, out, **options), ShardWriter, "add", at)
        pack(config(photos, out, **options | {"fakes_per_real": 3}))
        assert files(out) == files(packed)


def test_photographs_are_decoded_once_for_all_fakes(
    photos: Path, autoencoders: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = Counter[bytes]()

    def counting(data: bytes, **options: Any) -> Any:
        decoded[data] += 1
        return decode(data, **options)

    monkeypatch.setattr("pack.pipeline.decoding.decode", counting)
    pack_fakes(photos, tmp_path / "out", autoencoders, "all")
    assert set(decoded.values()) == {1}
    assert len(decoded) == 11


def test_a_photograph_that_cant_be_packed_is_rejected_once(autoencoders: str, tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", 6)
    (source / "03.jpg").write_bytes(b"no image")
    out = pack_fakes(source, tmp_path / "out", autoencoders, 2)
    assert [json.loads(line)["path"] for line in (out / "rejected.jsonl").read_text().splitlines()] == [
        "03.jpg"
    ]
    assert len(rows_of(out)) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"autoencoder": "identity,tiny", "fakes_per_real": 3},
            "fakes_per_real=3, but --autoencoder names 2",
        ),
        ({"autoencoder": "tiny", "fakes_per_real": 2}, "fakes_per_real=2, but one autoencoder"),
        ({"autoencoder": "tiny", "fakes_per_real": "all"}, "fakes_per_real=all, but one autoencoder"),
        ({"autoencoder": "identity,tiny", "fakes_per_real": 0}, "fakes_per_real=0, expected at least 1"),
        (
            {"autoencoder": "identity,tiny", "fakes_per_real": 2, "autoencoder_mode": "each"},
            "fakes_per_real=2 would be ignored: autoencoder_mode=each",
        ),
        ({"reconstructions": "x", "fakes_per_real": 2}, "would be ignored: the reconstructions are ready"),
    ],
)
def test_more_fakes_than_can_be_made_are_refused_with_the_numbers(
    photos: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        pack(PackConfig(source=str(photos), out=str(tmp_path / "out"), **options))
    assert not (tmp_path / "out").exists()


def test_one_fake_is_packed_as_before_there_could_be_several(photos: Path, tmp_path: Path) -> None:
    """No column, key, name or recorded option tells that there could be more."""
    out = pack_fakes(photos, tmp_path / "out", "identity,tiny", 1)
    manifest = json.loads((out / "dataset.json").read_text())
    assert "fakes_per_real" not in manifest["provenance"]["options"]
    assert manifest["fields"].keys() == {"real", "fake"}
    assert not any("more" in name for row in rows_of(out) for name in row)
    assert b"more_fakes" not in b"".join(files(out).values())


def test_damage_of_a_later_fake_is_found(packed: Path, tmp_path: Path) -> None:
    for name, data in files(packed).items():
        (tmp_path / name).write_bytes(data)
    row = rows_of(packed)[1]
    path = tmp_path / "shard-000000.tar"
    damaged = bytearray(path.read_bytes())
    damaged[row["more_fakes"][1]["offset"] + 40] ^= 1
    path.write_bytes(damaged)
    found = list(verify(open_dataset(str(tmp_path))))
    assert any(f"{row['key']}.fake3.jpg: CRC-32 differs" in line for line in found)


def test_info_counts_autoencoders_over_all_fakes(packed: Path) -> None:
    found = describe(open_dataset(str(packed)))
    assert (found["pairs"], found["fakes"]) == (11, 33)
    assert found["counts"]["autoencoder"] == dict.fromkeys(NAMES, 11)
    assert sum(found["counts"]["fake_codec"].values()) == 33
    assert sum(found["counts"]["real_codec"].values()) == 11


def test_preview_has_a_column_for_each_fake(packed: Path) -> None:
    one = preview.contact_sheet(open_dataset(str(packed)), count=2, gain=8, side=40)
    assert one.shape[1] == (40 + 8) * (1 + 2 * 3)
    assert one.shape[0] == preview.TITLE + preview.SCALE + sum(
        fitted(*decode(pair.real, max_pixels=10**6).size, 40)[0] + 8 + 2 * preview.LINE
        for number, pair in enumerate(iterate_pairs(str(packed)))
        if number in (0, 10)
    )


def test_dry_run_counts_the_fakes_of_each_autoencoder(
    photos: Path, autoencoders: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"autoencoder": autoencoders, "fakes_per_real": "all", "threads": 1}
    dry_run(config(photos, tmp_path / "out", **options))
    out = capsys.readouterr().out
    assert "one (11 fakes), two (11 fakes), three (11 fakes)" in out
    assert "real.jpg, fake.jpg, fake2.jpg, fake3.jpg, json" in out


def test_each_fake_stands_for_a_pair_of_its_own(packed: Path) -> None:
    for row, pair in zip(rows_of(packed), iterate_pairs(str(packed)), strict=True):
        alone = list(each_fake(pair))
        assert [one.fake for one in alone] == pair.fakes
        assert [json.loads(one.members["json"])["autoencoder"] for one in alone] == makers(row)
        assert all(one.fakes == [one.fake] and one.real == pair.real for one in alone)


def test_tars_of_several_fakes_are_adopted_only_if_one_is_named(packed: Path, tmp_path: Path) -> None:
    for path in packed.glob("*.tar"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"has fake.jpg and fake2.jpg.*--fake fake2.jpg"):
        adopt(IndexConfig(url=[str(tmp_path)]))
    (tmp_path / "shard-000000.parquet").unlink(missing_ok=True)
    adopt(IndexConfig(url=[str(tmp_path)], fake="fake2.jpg"))
    pairs = zip(iterate_pairs(str(tmp_path)), iterate_pairs(str(packed)), strict=True)
    assert all(one.fakes == [other.fakes[1]] for one, other in pairs)
