"""Padded sizes follow from an image's own size, and batches from the sequence of sizes."""

import random
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from recon.batches import BATCH_PIXELS, PENDING_PIXELS, Bucket, batched, bucket

sides = st.integers(1, 20_000)
multiples = st.sampled_from((1, 2, 4, 8, 16))
sequences = st.lists(st.integers(0, 4), max_size=60)
SIZES = [bucket(*size, 8) for size in ((64, 64), (480, 640), (375, 500), (1024, 1024), (3000, 4000))]


@given(height=sides, width=sides, multiple=multiples)
def test_padding_stays_below_a_32nd_of_the_side_or_the_multiple(
    height: int, width: int, multiple: int
) -> None:
    padded = bucket(height, width, multiple)
    for side, full in ((height, padded.height), (width, padded.width)):
        assert full % multiple == 0
        assert 0 <= full - side < max(side / 32, multiple)


@given(height=sides, width=sides, multiple=multiples)
def test_padded_image_is_its_own_bucket(height: int, width: int, multiple: int) -> None:
    padded = bucket(height, width, multiple, 3)
    assert bucket(padded.height, padded.width, multiple, 3) == padded


def test_nearby_sizes_share_a_bucket() -> None:
    assert bucket(427, 640, 8) == bucket(425, 633, 8) == Bucket(432, 640)
    assert bucket(3000, 4000, 8) == bucket(2970, 3970, 8) == Bucket(3008, 4032)


@given(sequence=sequences, batch_size=st.integers(1, 9))
def test_every_image_is_in_one_batch_of_its_size_in_input_order(sequence: list[int], batch_size: int) -> None:
    batches = list(batched(enumerate(sequence), lambda image: SIZES[image[1]], batch_size))
    for batch in batches:
        assert batch == sorted(batch)
        assert len({kind for _, kind in batch}) == 1
        assert len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * SIZES[batch[0][1]].pixels <= BATCH_PIXELS
    assert sorted(image for batch in batches for image in batch) == list(enumerate(sequence))


@given(sequence=sequences, batch_size=st.integers(1, 9))
def test_no_more_than_the_pending_pixels_wait_and_one_image(sequence: list[int], batch_size: int) -> None:
    inside = 0
    most = PENDING_PIXELS // 8  # so that some of the sequences reach it

    def images() -> Iterator[int]:
        nonlocal inside
        for kind in sequence:
            assert inside <= most
            inside += SIZES[kind].pixels
            yield kind

    for batch in batched(images(), lambda kind: SIZES[kind], batch_size, pending_pixels=most):
        inside -= sum(SIZES[kind].pixels for kind in batch)
    assert inside == 0


def test_full_bucket_goes_before_another_image_is_taken() -> None:
    taken = 0

    def images() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    assert next(batched(images(), lambda _: SIZES[0], 8)) == list(range(1, 9))
    assert taken == 8


def test_bucket_that_waited_longest_goes_first_where_too_many_wait() -> None:
    rare, common = Bucket(64, 64), Bucket(128, 128)
    sizes = [common] * 2 + [rare] + [common] * 5
    batches = batched(enumerate(sizes), lambda image: image[1], 2, pending_pixels=128 * 128)
    assert [[index for index, _ in batch] for batch in batches] == [[0, 1], [2], [3, 4], [5, 6], [7]]


def test_autoencoders_do_not_share_a_batch() -> None:
    images = [bucket(64, 64, 8, which) for which in (0, 1, 0, 1)]
    assert list(batched(images, lambda image: image, 8)) == [images[::2], images[1::2]]


def test_batches_are_full_for_a_shard_of_mixed_photographs() -> None:
    """Sides as COCO's: one is 640, the other anything."""
    draw = random.Random(0)
    images = [sorted((640, draw.randint(360, 640)), reverse=draw.random() < 0.7) for _ in range(1000)]
    batches = list(batched([bucket(*size, 8) for size in images], lambda image: image, 8))
    assert len(batches) <= 1000 / 8 * 1.25
