"""How fast blocks come out of a bucket, beside other ways to read the same bytes.

    python tests/bench_read.py          (s3fs and awscli, where installed, add a row each)

Starts the S3 server of the tests on this machine, fills a bucket with shards, and reads all of them in
each way in turn, round by round; prints medians. MB are 1e6 bytes; CPU is of the reading process.
"""

import argparse
import hashlib
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import torch
from conftest import photograph
from PIL import Image
from s3_server import ADMIN, BUCKET, REGION, serving

from pack.dataset.dataset import Dataset
from pack.dataset.pairs import StoredPair
from pack.shard.index import index_bytes
from pack.shard.manifest import Manifest, ShardEntry
from pack.shard.pair import Pair
from pack.shard.writer import ShardWriter
from pack.storage import open_store
from train.loader.loader import PairLoader

BLOCK = 16
READS = 4


def write_dataset(url: str, shards: int, shard_mb: float, width: int) -> None:
    """JPEGs 3/4 as high as wide: few different photographs under many keys."""
    files = [_jpeg(number, width) for number in range(6)]
    store, entries = open_store(url), []
    for number in range(shards):
        name, size, rows = f"shard-{number:06d}", 0, 0
        with store.publish(f"{name}.tar") as file:
            writer = ShardWriter(file, "bench")
            while writer.sink.size < shard_mb * 1e6:
                writer.add(_pair(f"{number}-{rows}", files[rows % 6]))
                rows += 1
            size, sha256 = writer.close()
        facts = {"name": name, "pairs": rows, "bytes": size, "sha256": sha256}
        index = index_bytes(writer.rows, facts)
        with store.publish(f"{name}.parquet") as file:
            file.write(index)
        entries.append(ShardEntry(**facts, index_sha256=hashlib.sha256(index).hexdigest()))
    manifest = Manifest(name="bench", split=None, shards=tuple(entries), rejected=0, provenance={})
    with store.publish("dataset.json") as file:
        file.write(manifest.to_json().encode())


def _jpeg(number: int, width: int) -> bytes:
    out = BytesIO()
    Image.fromarray(photograph(width * 3 // 4, width, number)).save(out, "JPEG", quality=90)
    return out.getvalue()


def _pair(key: str, image: bytes) -> Pair:
    record = {"path": key, "group": "bench", "width": 512, "height": 384, "real_codec": "jpeg"}
    return Pair(
        key=key,
        real=image,
        real_codec="jpeg",
        fake=image,
        fake_codec="jpeg",
        record=record | {"fake_codec": "jpeg"},
    )


def bare_boto3(url: str) -> int:
    """One GET a shard, one after the other, nothing checked."""
    client = boto3.client("s3")
    bucket, prefix = url.removeprefix("s3://").split("/", 1)
    total = 0
    for shard in Dataset(url).manifest.shards:
        body = client.get_object(Bucket=bucket, Key=f"{prefix}/{shard.name}.tar")["Body"]
        while data := body.read(1 << 20):
            total += len(data)
    return total


def blocks(url: str, reads: int) -> int:
    """Blocks in a drawn order, each payload's CRC checked."""
    dataset = Dataset(url)
    places = [
        (shard, first, min(BLOCK, entry.pairs - first))
        for shard, entry in enumerate(dataset.manifest.shards)
        for first in range(0, entry.pairs, BLOCK)
    ]
    order = np.random.default_rng(0).permutation(len(places))

    def read(number: int) -> int:
        pairs = dataset.read_block(*places[number])
        assert all(isinstance(pair, StoredPair) for pair in pairs)
        return sum(
            len(data) for pair in pairs if isinstance(pair, StoredPair) for data in pair.members.values()
        )

    with ThreadPoolExecutor(reads) as pool:
        return sum(pool.map(read, order.tolist()))


def webdataset_over(url: str, scheme: str) -> int:
    """`webdataset` reading each shard to its end, through s3fs or a pipe from ``aws s3 cp``."""
    import webdataset as wds

    tars = [f"{url}/{shard.name}.tar" for shard in Dataset(url).manifest.shards]
    if scheme == "pipe":
        endpoint = os.environ["AWS_ENDPOINT_URL_S3"]
        tars = [f"pipe:aws --endpoint-url {endpoint} s3 cp --quiet {tar} -" for tar in tars]
    else:
        import s3fs

        filesystem = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])
        wds.gopen_schemes["s3"] = lambda path, mode="rb", _size=0, **_: filesystem.open(path, mode)
    samples: Iterator[dict[str, Any]] = iter(wds.WebDataset(tars, shardshuffle=False))
    return sum(len(value) for sample in samples for value in sample.values() if isinstance(value, bytes))


def measured(read: Callable[[], int]) -> tuple[float, float, int]:
    """(seconds, CPU seconds, bytes) of one reading."""
    before, start = _cpu_seconds(), time.perf_counter()
    total = read()
    return time.perf_counter() - start, _cpu_seconds() - before, total


def _cpu_seconds() -> float:
    """Of this process and the children that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def table(url: str, rounds: int) -> None:
    ways: dict[str, Callable[[], int]] = {
        "bare boto3, one stream": lambda: bare_boto3(url),
        "blocks with CRC, one stream": lambda: blocks(url, 1),
        f"blocks with CRC, {READS} reads": lambda: blocks(url, READS),
    }
    with suppress(ImportError):
        import s3fs  # noqa: F401

        ways["webdataset over s3fs"] = lambda: webdataset_over(url, "s3")
    if shutil.which("aws"):
        ways["webdataset over pipe:aws"] = lambda: webdataset_over(url, "pipe")
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, read in ways.items():
            found[name].append(measured(read))
    medians = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)]
        for name, runs in found.items()
    }
    base = medians["bare boto3, one stream"]
    base_rate = base[2] / base[0]
    manifest = Dataset(url).manifest
    sys.stdout.write(
        f"{manifest.bytes / 1e6:.0f} MB, blocks of {BLOCK * manifest.bytes / manifest.pairs / 1e6:.1f} MB\n"
    )
    sys.stdout.write(f"{'':28} {'MB/s':>7} {'of bare':>8} {'CPU-s/GB':>9}\n")
    for name, (seconds, cpu, total) in medians.items():
        rate = total / seconds
        sys.stdout.write(f"{name:28} {rate / 1e6:7.0f} {rate / base_rate:8.2f} {cpu / total * 1e9:9.2f}\n")


def first_batches(url: str) -> None:
    """From asking for a batch to having it, the worker being up, at several places of an epoch."""
    torch.set_num_threads(1)  # as a rank beside its worker on two cores
    loader = PairLoader(url, batch_size=64, seed=0)
    next(iter(loader))
    waits = []
    for step in range(0, len(loader) - 1, max(1, len(loader) // 5)):
        loader.load_state_dict(loader.state_dict() | {"epoch": 1, "step": step})
        start = time.perf_counter()
        next(iter(loader))
        waits.append(time.perf_counter() - start)
    loader.close()
    shown = ", ".join(f"{wait:.2f}" for wait in waits)
    sys.stdout.write(f"first of {len(loader)} batches of 64 pairs after a seek, worker running: {shown} s\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--shard_mb", type=float, default=64)
    parser.add_argument("--width", type=int, default=768, help="of the images: pairs of 560 KB by default")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "s3") as server:
        os.environ |= {
            "AWS_ENDPOINT_URL_S3": server.endpoint,
            "AWS_ACCESS_KEY_ID": ADMIN.access_key,
            "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }
        url = f"s3://{BUCKET}/bench"
        write_dataset(url, chosen.shards, chosen.shard_mb, chosen.width)
        table(url, chosen.rounds)
        first_batches(url)


if __name__ == "__main__":
    main()
