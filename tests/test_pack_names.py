"""Keys, pair ids and splits depend on the source path alone and never grow a PAX header."""

import os

from hypothesis import given
from hypothesis import strategies as st

from pack.base.names import in_validation, make_key, pair_id, printable
from recon.image.codec import LOADABLE

USTAR_NAME = 60  # the format's promise; USTAR itself ends at 100

paths = st.one_of(
    st.binary(min_size=1, max_size=300).map(os.fsdecode),  # whatever a file system may hold
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300),
)
corners = st.none() | st.tuples(st.integers(0, 100_000), st.integers(0, 100_000))


@given(path=paths, tile=corners)
def test_key_is_ascii_without_a_dot_and_its_member_names_are_short(
    path: str, tile: tuple[int, int] | None
) -> None:
    key = make_key(path, tile)
    assert key.isascii()
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    fields = [f"{member}.{suffix}" for member in ("real", "fake") for suffix in LOADABLE.values()]
    assert max(len(f"{key}.{field}") for field in [*fields, "json"]) < USTAR_NAME


@given(images=st.sets(st.tuples(paths, corners), max_size=50))
def test_keys_of_different_images_and_tiles_differ(
    images: set[tuple[str, tuple[int, int] | None]],
) -> None:
    assert len({make_key(path, tile) for path, tile in images}) == len(images)


def test_keys_are_those_of_format_1() -> None:
    assert make_key("a/Été 2024.v1.JPG") == "ete-2024-v1-2d225804135a134b"
    assert make_key("写真.jpg", (8, 16)) == "image-181bb3590519b0cd"
    assert pair_id("photos", "plain-0123456789abcdef") == 0x869BD292ACBA7E3F


def test_files_that_differ_by_suffix_or_folder_alone_have_keys_of_their_own() -> None:
    names = ["a.jpg", "a.png", "b/a.jpg", "A.jpg", "a.b.jpg", "a-b.jpg"]
    assert len({make_key(name) for name in names}) == len(names)


@given(dataset=paths, key=paths)
def test_pair_id_has_64_bits_and_depends_on_the_dataset(dataset: str, key: str) -> None:
    assert 0 <= pair_id(dataset, key) < 2**64
    assert pair_id(dataset, key) != pair_id(f"{dataset}2", key)


def test_pair_ids_use_all_64_bits() -> None:
    seen = 0
    for number in range(100):
        seen |= pair_id("d", str(number))
    assert seen == 2**64 - 1


@given(path=paths, fractions=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_validation_grows_with_its_fraction_and_moves_no_image_back(
    path: str, fractions: tuple[float, float]
) -> None:
    small, large = sorted(fractions)
    assert in_validation(path, small) <= in_validation(path, large)
    assert not in_validation(path, 0.0)


def test_validation_takes_about_its_fraction() -> None:
    share = sum(in_validation(f"{number}.jpg", 0.2) for number in range(5000)) / 5000
    assert abs(share - 0.2) < 0.02


@given(path=paths)
def test_printable_is_valid_unicode_and_keeps_what_was_valid(path: str) -> None:
    printable(path).encode("utf-8")
    if not any("\udc80" <= character <= "\udcff" for character in path):
        assert printable(path) == path


def test_undecodable_bytes_are_written_as_escapes() -> None:
    assert printable(os.fsdecode(b"caf\xe9/\xff.jpg")) == r"caf\xe9/\xff.jpg"
