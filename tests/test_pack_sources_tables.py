"""Tables of paths and URLs: every row an image, and no row left out in silence."""

import csv
import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import photograph, save
from hypothesis import example, given
from hypothesis import strategies as st
from pack_runs import identity

from pack.base.config import PackConfig
from pack.base.items import Item
from pack.sources import find_items
from recon.base.errors import RejectedImageError, UserError


def found(source: Path | str, **options: Any) -> list[Item]:
    config = PackConfig(source=str(source), out="unused", **identity(options) | options)
    return find_items(config)[None]


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    """The same table as CSV or Parquet, by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture(params=["csv", "parquet"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a table is to be."""
    return tmp_path / f"lists/real.{request.param}"


@pytest.mark.parametrize("column", ["path", "url", "image", "file_name"])
def test_rows_become_sorted_items_grouped_by_their_folder(table: Path, column: str) -> None:
    for name in ("cats/b.jpg", "a, b.jpg", "写真.jpg"):
        save(table.parent / name, photograph(8, 8, 0))
    items = found(write(table, {"n": [1, 2, 3], column: ["cats/b.jpg", "a, b.jpg", "./写真.jpg"]}))
    assert [(item.path, item.group) for item in items] == [
        ("a, b.jpg", "lists"),
        ("cats/b.jpg", "cats"),
        ("写真.jpg", "lists"),
    ]
    for item in items:
        assert item.real.size == len(item.real.read()) > 0


def test_named_columns_are_taken_for_path_and_group(table: Path) -> None:
    write(table, {"path": ["x", "y"], "where": ["b.jpg", "a.jpg"], "label": [7, 8], "kind": ["cat", "dog"]})
    assert [(i.path, i.group) for i in found(table, column="where", group_column="kind")] == [
        ("a.jpg", "dog"),
        ("b.jpg", "cat"),
    ]
    assert [i.group for i in found(table, column="where", group_column="label")] == ["8", "7"]


def test_relative_absolute_and_remote_images_stand_in_one_table(table: Path, tmp_path: Path) -> None:
    far = f"memory://{tmp_path.name}/photos/c.jpg"
    fsspec.filesystem("memory").pipe_file(far, b"far")
    (tmp_path / "b.jpg").write_bytes(b"absolute")
    (tmp_path / "a.jpg").write_bytes(b"above")
    write(table, {"path": ["../a.jpg", str(tmp_path / "b.jpg"), far]})
    assert {i.path: (i.group, i.real.read(), i.real.size) for i in found(table)} == {
        "../a.jpg": ("..", b"above", 5),
        str(tmp_path / "b.jpg"): (tmp_path.name, b"absolute", 8),
        far: ("photos", b"far", None),
    }


def test_paths_of_a_table_at_a_url_begin_there(table: Path, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"{url}/lists/cats/a.jpg", b"cat")
    write(table, {"path": ["cats/a.jpg"]})
    memory.pipe_file(f"{url}/lists/{table.name}", table.read_bytes())
    assert [(i.path, i.group, i.real.read()) for i in found(f"{url}/lists/{table.name}")] == [
        ("cats/a.jpg", "cats", b"cat")
    ]
    write(table, {"path": ["../a.jpg"]})
    memory.pipe_file(f"{url}/lists/{table.name}", table.read_bytes())
    with pytest.raises(
        UserError, match=r"row 1 leads out of memory://.*/lists \(\.\./a\.jpg\); give it as a URL"
    ):
        found(f"{url}/lists/{table.name}")


@pytest.mark.parametrize(
    "row",
    [
        "/etc/x.jpg",
        "file:///etc/x.jpg",
        "file://x.jpg",
        "FILE:///etc/x.jpg",
        "local://etc/x.jpg",
        "//etc/x.jpg",
    ],
)
def test_table_at_a_url_names_no_file_of_this_machine(table: Path, tmp_path: Path, row: str) -> None:
    url = f"memory://{tmp_path.name}/{table.name}"
    write(table, {"path": ["a.jpg", row]})
    fsspec.filesystem("memory").pipe_file(url, table.read_bytes())
    with pytest.raises(
        UserError, match=rf"row 2 names a file of this machine \({row}\), but the table .*; expected a URL"
    ):
        found(url)


def test_table_at_a_url_names_files_of_other_hosts(table: Path, tmp_path: Path) -> None:
    far = f"memory://{tmp_path.name}-other/photos/c.jpg"
    fsspec.filesystem("memory").pipe_file(far, b"far")
    write(table, {"path": [far]})
    url = f"memory://{tmp_path.name}/{table.name}"
    fsspec.filesystem("memory").pipe_file(url, table.read_bytes())
    assert [(item.path, item.real.read()) for item in found(url)] == [(far, b"far")]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"file": ["a.jpg"], "n": [1]}, {}, "has no column path or url or image or file_name, only file, n;"),
        ({"path": ["a.jpg"]}, {"column": "p"}, "has no column p, only path; name one with --column"),
        ({"path": ["a.jpg"]}, {"group_column": "g"}, "no column g, only path; name one with --group_column"),
        ({"path": ["a.jpg", "", "b.jpg"]}, {}, "row 2 has no value in column path"),
        (
            {"path": ["a.jpg", "b.jpg"], "g": ["x", " "]},
            {"group_column": "g"},
            "row 2 has no value in column g",
        ),
        ({"path": ["a.jpg", "b.jpg", "./a.jpg"]}, {}, r"rows 1 and 3 both name a\.jpg; keep one of them"),
        ({"url": ["s3:///a.jpg"]}, {}, r"row 1 holds s3:///a\.jpg, expected SCHEME://HOST/PATH"),
        ({"url": ["s3://bucket"]}, {}, "row 1 holds s3://bucket, expected SCHEME://HOST/PATH"),
        ({"url": ["nosuch://bucket/a.jpg"]}, {}, "can't open nosuch://bucket"),
        ({"path": []}, {}, "no images for the dataset in"),
    ],
)
def test_wrong_table_is_an_error_that_names_row_or_columns(
    table: Path, columns: dict[str, list[Any]], options: dict[str, Any], message: str
) -> None:
    if table.suffix == ".parquet" and columns == {"path": []}:
        columns = {"path": pa.array([], pa.string())}
    with pytest.raises(UserError, match=message):
        found(write(table, columns), **options)


def test_row_of_parquet_without_value_or_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 2 has no value in column path"):
        found(write(tmp_path / "a.parquet", {"path": ["a.jpg", None]}))
    images = [{"bytes": b"x", "path": "a.jpg"}]
    with pytest.raises(UserError, match="column image holds dict, expected text; name another with --column"):
        found(write(tmp_path / "b.parquet", {"image": images}))


def test_secret_in_a_url_is_refused_and_not_repeated(table: Path) -> None:
    write(table, {"url": ["https://host/a.jpg?X-Amz-Signature=geheim"]})
    with pytest.raises(UserError, match=r"row 1: .* a URL with a password or signature") as told:
        found(table)
    assert "geheim" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"path,n\na.jpg,1\nb.jpg\n", "row 2 has 1 cells, expected 2"),
        ("a.csv", b"path,path\na.jpg,b.jpg\n", "it has 2 columns path"),
        ("a.csv", b"path\n\xff.jpg\n", "can't be read as CSV in UTF-8"),
        ("a.csv", b'path\n"a.jpg\n', "can't be read as CSV"),
        ("a.csv", b"", "has no column .*, only an empty header"),
        ("a.parquet", b"path\na.jpg\n", "can't be read as Parquet"),
    ],
)
def test_broken_table_is_one_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        found(tmp_path / name)


def test_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('\ufeffpath,note\r\na.jpg,"two\r\nlines"\r\n\r\nb.jpg,\r\n'.encode())
    assert [item.path for item in found(tmp_path / "a.csv")] == ["a.jpg", "b.jpg"]


def test_table_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv not found"):
        found(tmp_path / "none.csv")


def test_image_that_is_not_there_is_left_for_packing_to_reject(table: Path) -> None:
    os.makedirs(table.parent / "folder.jpg")
    items = found(write(table, {"path": ["gone.jpg", "folder.jpg", "x" * 300 + ".jpg"]}), tile=8)
    causes = {}
    for item in items:
        with pytest.raises(RejectedImageError) as told:
            item.real.read()
        causes[item.path[:6]] = str(told.value)
    assert causes == {
        "gone.j": "can't be read: No such file or directory",
        "folder": "can't be read: Is a directory",
        "xxxxxx": "can't be read: File name too long",
    }


def test_reconstructions_are_paired_with_the_paths_of_a_table(table: Path, tmp_path: Path) -> None:
    for name in ("fake/a.png", "fake/cats/b.webp"):
        save(tmp_path / name, photograph(8, 8, 0))
    write(table, {"path": ["cats/b.jpg", "a.jpg"]})
    items = found(table, reconstructions=str(tmp_path / "fake"))
    assert [item.fake and item.fake.name for item in items] == ["a.png", "cats/b.webp"]


@given(
    st.sets(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1).filter(
            lambda name: name.strip() and name not in (".", "..") and "://" not in name
        )
    )
)
@example({"1_fake"})  # a photograph of that name, not a folder of fakes
def test_csv_and_parquet_of_the_same_rows_give_the_same_items(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    if not names:
        return
    folder = tmp_path_factory.mktemp("t")
    rows = {"path": sorted(names)}
    expected = sorted(names)
    for suffix in ("csv", "parquet"):
        assert [item.path for item in found(write(folder / f"a.{suffix}", rows))] == expected
