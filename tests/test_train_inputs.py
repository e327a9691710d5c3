"""Inputs of evaluation as they lie about: what each layout means, on disk and at a URL; what is refused."""

import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import S3Env
from scored_images import png, put
from train_data import make_dataset

from recon.base.errors import UserError
from train.evaluation.inputs.find import open_source
from train.evaluation.inputs.labels import Words, words_of
from train.evaluation.inputs.source import ImageSource, described
from train.evaluation.inputs.tables import Columns

Rows = list[tuple[str, str, int | None]]  # name, group, label
Layout = Callable[[Path], tuple[str, Rows]]


def put_all(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        put(root / name, png(number))


def published_tree(root: Path) -> tuple[str, Rows]:
    put_all(root, "val/gan/0_real/a.png", "val/gan/1_fake/a.png")
    return "", [("val/gan/0_real/a.png", "val/gan", 0), ("val/gan/1_fake/a.png", "val/gan", 1)]


def genimage(root: Path) -> tuple[str, Rows]:
    put_all(root, "ADM/train/nature/n.png", "ADM/train/ai/0.png", "ADM/val/nature/m.png", "ADM/val/ai/1.png")
    return "", [
        ("ADM/train/ai/0.png", "ADM/train", 1),
        ("ADM/train/nature/n.png", "ADM/train", 0),
        ("ADM/val/ai/1.png", "ADM/val", 1),
        ("ADM/val/nature/m.png", "ADM/val", 0),
    ]


def community_forensics(root: Path) -> tuple[str, Rows]:
    put_all(root, "sd/real/a.png", "sd/fake/a.png", "flux/fake/b.png", "flux/real/b.png")
    return "", [
        ("flux/fake/b.png", "flux", 1),
        ("flux/real/b.png", "flux", 0),
        ("sd/fake/a.png", "sd", 1),
        ("sd/real/a.png", "sd", 0),
    ]


def real_beside_generators(root: Path) -> tuple[str, Rows]:
    put_all(root, "real/a.png", "gen_0/a.png", "gen_1/deep/b.png")
    return "", [("gen_0/a.png", "gen_0", 1), ("gen_1/deep/b.png", "gen_1", 1), ("real/a.png", "", 0)]


def fakes_only(root: Path) -> tuple[str, Rows]:
    put_all(root, "sd/1_fake/a.png", "flux/1_fake/a.png")
    return "", [("flux/1_fake/a.png", "flux", 1), ("sd/1_fake/a.png", "sd", 1)]


def reals_only(root: Path) -> tuple[str, Rows]:
    put_all(root, "0_real/a.png", "0_real/b.png")
    return "0_real", [("a.png", "0_real", 0), ("b.png", "0_real", 0)]


def without_labels(root: Path) -> tuple[str, Rows]:
    put_all(root, "holiday/a.png", "b.png")
    return "", [("b.png", root.name, None), ("holiday/a.png", "holiday", None)]


def one_image(root: Path) -> tuple[str, Rows]:
    put_all(root, "a.png")
    return "a.png", [("a.png", root.name, None)]


def csv_of(root: Path, text: str) -> str:
    put_all(root, "r.png", "f.png", "g.png")
    put(root / "list.csv", text.encode("utf-8-sig"))
    return "list.csv"


def filename_typ(root: Path) -> tuple[str, Rows]:
    name = csv_of(root, "filename,typ\nr.png,real\nf.png,sd\ng.png,flux\n")
    return name, [("r.png", "", 0), ("f.png", "sd", 1), ("g.png", "flux", 1)]


def filename_label_numbers(root: Path) -> tuple[str, Rows]:
    name = csv_of(root, "filename,label\nr.png,0\nf.png,1\ng.png,1\n")
    return name, [("r.png", "list", 0), ("f.png", "list", 1), ("g.png", "list", 1)]


def filename_label_words(root: Path) -> tuple[str, Rows]:
    name = csv_of(root, "filename,label\nr.png,REAL\nf.png,FAKE\n")
    return name, [("r.png", "list", 0), ("f.png", "list", 1)]


def openfake(root: Path) -> tuple[str, Rows]:
    name = csv_of(
        root, 'file_name,prompt,label,model\nr.png,"a, b",real,\nf.png,c,fake,sd\ng.png,d,fake,flux\n'
    )
    return name, [("r.png", "", 0), ("f.png", "sd", 1), ("g.png", "flux", 1)]


def spai(root: Path) -> tuple[str, Rows]:
    name = csv_of(root, "image,class,split\nr.png,0,test\nf.png,1,test\ng.png,1,val\n")
    return name, [("r.png", "test", 0), ("f.png", "test", 1), ("g.png", "val", 1)]


def parquet_of_paths(root: Path) -> tuple[str, Rows]:
    put_all(root, "r.png", "f.png")
    pq.write_table(pa.table({"path": ["r.png", "f.png"], "label": [0, 1]}), root / "list.parquet")
    return "list.parquet", [("r.png", "list", 0), ("f.png", "list", 1)]


def imagefolder_with_metadata(root: Path) -> tuple[str, Rows]:
    csv_of(root, "")
    (root / "list.csv").rename(root / "metadata.csv")
    (root / "metadata.csv").write_text("file_name,label\nr.png,real\nf.png,fake\n")
    return "", [("r.png", "metadata", 0), ("f.png", "metadata", 1)]


def hf_bytes(root: Path) -> tuple[str, Rows]:
    """As Community Forensics' small set: bytes in `image_data`; two row groups, one a row."""
    table = {"image_data": [png(0), png(1)], "label": [0, 1], "model_name": ["none", "sd"]}
    (root / "data").mkdir(parents=True)
    pq.write_table(pa.table(table), root / "data/train-00000.parquet", row_group_size=1)
    return "data", [("train-00000.parquet#0", "", 0), ("train-00000.parquet#1", "sd", 1)]


def hf_struct(root: Path) -> tuple[str, Rows]:
    """An image struct, and a ClassLabel whose names say that 0 is fake."""
    images = [{"bytes": png(number), "path": None} for number in range(2)]
    names = {"info": {"features": {"label": {"names": ["FAKE", "REAL"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": images, "label": [0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
    root.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, root / "all.parquet")
    return "all.parquet", [("all.parquet#0", "all", 1), ("all.parquet#1", "all", 0)]


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def tars_with_cls(root: Path) -> tuple[str, Rows]:
    tar_of(root / "0.tar", {"a.png": png(0), "a.cls": b"0", "b.png": png(1), "b.cls": b"1"})
    return "*.tar", [("0.tar/a.png", root.name, 0), ("0.tar/b.png", root.name, 1)]


def tars_with_json(root: Path) -> tuple[str, Rows]:
    real, fake = {"label": "real", "model": None}, {"label": "fake", "model": "sd"}
    members = {"a.png": png(0), "a.json": json.dumps(real).encode()}
    tar_of(root / "0.tar", members | {"b.png": png(1), "b.json": json.dumps(fake).encode()})
    return "0.tar", [("0.tar/a.png", "", 0), ("0.tar/b.png", "sd", 1)]


def tars_with_fields(root: Path) -> tuple[str, Rows]:
    tar_of(root / "sd/0.tar", {"a.real.png": png(0), "a.fake.png": png(1)})
    return "", [("sd/0.tar/a.real.png", "sd", 0), ("sd/0.tar/a.fake.png", "sd", 1)]


def tars_with_names(root: Path) -> tuple[str, Rows]:
    tar_of(root / "fake-000.tar", {"a.png": png(0)})
    tar_of(root / "real-000.tar", {"a.png": png(1)})
    return "", [("fake-000.tar/a.png", root.name, 1), ("real-000.tar/a.png", root.name, 0)]


LAYOUTS: list[Layout] = [
    *(published_tree, genimage, community_forensics, real_beside_generators, fakes_only, reals_only),
    *(without_labels, one_image, filename_typ, filename_label_numbers, filename_label_words, openfake, spai),
    *(parquet_of_paths, imagefolder_with_metadata, hf_bytes, hf_struct),
    *(tars_with_cls, tars_with_json, tars_with_fields, tars_with_names),
]


def rows_of(source: ImageSource) -> Rows:
    return [(one.name, one.group, one.label) for one in source.listed]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_understood_and_every_image_is_read(layout: Layout, tmp_path: Path) -> None:
    name, expected = layout(tmp_path / "set")
    source = open_source(str(tmp_path / "set" / name))
    assert rows_of(source) == expected
    images = list(source.images())
    assert [image.name for image in images] == [name for name, _, _ in expected]
    assert all(image.data.startswith(b"\x89PNG") for image in images)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_understood_below_a_folder_whose_name_looks_like_a_pattern(
    layout: Layout, tmp_path: Path
) -> None:
    name, expected = layout(tmp_path / "set [1]")
    source = open_source(str(tmp_path / "set [1]" / name))
    assert [(one.name, one.label) for one in source.listed] == [(name, label) for name, _, label in expected]
    assert len(list(source.images())) == len(expected)


def test_every_layout_is_the_same_at_a_url(s3_env: S3Env, tmp_path: Path) -> None:
    for layout in LAYOUTS:
        local = tmp_path / layout.__name__
        name, expected = layout(local / "set")
        for file in sorted(path for path in local.rglob("*") if path.is_file()):
            s3_env.put(str(file.relative_to(tmp_path)), file.read_bytes())
        source = open_source(f"{s3_env.url}/{layout.__name__}/set/{name}".rstrip("/"))
        assert rows_of(source) == expected, layout.__name__
        disk = open_source(str(local / "set" / name))
        assert [one.data for one in source.images()] == [one.data for one in disk.images()], layout.__name__


def test_images_of_one_photograph_are_known_as_such(tmp_path: Path) -> None:
    put_all(tmp_path / "a", "sd/0_real/x/1.jpg", "sd/1_fake/x/1.png", "sd/1_fake/2.png")
    found = {one.name: one.photograph for one in open_source(str(tmp_path / "a")).listed}
    assert found == {"sd/0_real/x/1.jpg": "x/1", "sd/1_fake/x/1.png": "x/1", "sd/1_fake/2.png": "2"}
    listed = open_source(make_dataset(tmp_path / "b", pairs=2, shard_pairs=2)).listed
    assert [one.photograph for one in listed] == ["000.png", "000.png", "001.png", "001.png"]


def test_columns_and_words_can_be_named(tmp_path: Path) -> None:
    name = csv_of(tmp_path, "where,what,by\nr.png,photo,x\nf.png,sd,y\ng.png,flux,y\n")
    columns = Columns(path="where", label="what", group="by")
    source = open_source(str(tmp_path / name), words=words_of("photo", None, None), columns=columns)
    assert rows_of(source) == [("r.png", "", 0), ("f.png", "y", 1), ("g.png", "y", 1)]
    columns = Columns(path="where", label="what")
    source = open_source(str(tmp_path / name), words=words_of("photo", "sd,flux", None), columns=columns)
    assert rows_of(source) == [("r.png", "", 0), ("f.png", "sd", 1), ("g.png", "flux", 1)]
    put_all(tmp_path / "folders", "coco/a.png", "sd15/a.png")
    source = open_source(str(tmp_path / "folders"), words=words_of("coco", "sd15", None))
    assert [one.label for one in source.listed] == [0, 1]
    source = open_source(str(tmp_path / "folders"), words=words_of(None, None, "fake"))
    assert rows_of(source) == [("coco/a.png", "coco", 1), ("sd15/a.png", "sd15", 1)]


def test_what_was_understood_fits_a_line(tmp_path: Path) -> None:
    real_beside_generators(tmp_path / "set")
    assert described(open_source(str(tmp_path / "set")), "set") == (
        "set is a folder: 3 images (1 real, 2 fake) in 2 groups: gen_0 (1), gen_1 (1); "
        "1 real image count in every group"
    )


def refusals(root: Path) -> dict[str, tuple[str, dict[str, Any], str]]:
    put_all(root / "mixed", "real/a.png", "b.png")
    packed = make_dataset(root / "data/train", pairs=1, shard_pairs=1)
    shutil.move(packed, root / "two/train")
    csv_of(root / "odd", "filename,label\nr.png,cat\nf.png,dog\n")
    put_all(root / "plain", "a.png")
    put_all(root / "views", "nature/a.png", "city/a.png")
    csv_of(root / "misspelt", "filename,typ\nr.png,real\ns.png,Rael\nf.png,sd\n")
    put_all(root / "beside", "real/a.png", "reall/a.png", "realvis/a.png")
    return {
        "a word by chance": ("views", {}, r"1 of 2 images lie in no folder .* the first is city/a\.png"),
        "some without": ("mixed", {}, r"1 of 2 images lie in no folder .* b\.png; name the words by --real"),
        "packed splits": ("two", {}, "holds packed datasets in train; name one of them"),
        "odd values": (
            "odd/list.csv",
            {},
            r"column label holds 'cat' \(1\), 'dog' \(1\), which says neither",
        ),
        "no column": (
            "odd/list.csv",
            {"columns": Columns(label="typ")},
            "no column typ, expected one of file",
        ),
        "misspelt value": (
            "misspelt/list.csv",
            {},
            "in column typ, 'Rael' would be a generator, but it looks like 'real'; .*: --fake Rael or --real",
        ),
        "misspelt folder": ("beside", {}, "the folder 'reall' would be a generator"),
        "packed words": ("two/train", {"words": Words(label=1)}, "packed datasets have their own"),
        "folder columns": ("plain", {"columns": Columns(label="x")}, "columns would be ignored: .*a folder"),
    }


def test_generators_with_names_like_real_are_taken_if_the_user_names_them(tmp_path: Path) -> None:
    refusals(tmp_path)
    table = open_source(str(tmp_path / "misspelt/list.csv"), words=words_of(None, "Rael,sd", None))
    assert [one.label for one in table.listed] == [0, 1, 1]
    beside = open_source(str(tmp_path / "beside"), words=words_of("real", "reall,realvis", None))
    assert [one.label for one in beside.listed] == [0, 1, 1]


def test_what_can_not_be_guessed_is_refused_with_the_choices(tmp_path: Path) -> None:
    for case, (name, options, message) in refusals(tmp_path).items():
        with pytest.raises(UserError) as refused:
            open_source(str(tmp_path / name), **options)
        assert re.search(message, str(refused.value)), case
    with pytest.raises(UserError, match="label=fake is for all images"):
        words_of("a", None, "fake")
    with pytest.raises(UserError, match="a is among the words of both"):
        words_of("a,b", "c,A", None)
