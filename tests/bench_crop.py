"""What random crops of a dataset's pairs cost, beside webdataset with the same decoder and the same crop.

    python tests/bench_crop.py data/mine/train

Both ways read all of the local tars and give batches of 64 pairs of uint8 crops, on one decoding thread, in
turn, round by round; CPU time of this process, medians. The loader also shuffles, and checks each payload's
CRC; webdataset reads on, and decodes both images whole by libjpeg-turbo.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import simplejpeg
import webdataset as wds

from pack.dataset.dataset import Dataset
from train.draws.config import load_recipe
from train.loader.loader import PairLoader

BATCH, CROP, BLOCK = 64, 96, 16


def ours(url: str) -> Callable[[], int]:
    """Epoch after epoch of the loader with the recipe ``none``, in this process."""
    pairs = Dataset(url).manifest.pairs
    # No more lanes than blocks: else each read would bring a pair or two, as of no large dataset.
    lanes = max(1, min(192, pairs // BLOCK))
    options = {"augment": load_recipe("none"), "lanes": lanes, "block": BLOCK, "workers": 0, "threads": 1}
    loader = PairLoader(url, batch_size=BATCH, **options)
    return lambda: sum(len(batch.keys) for batch in loader)


def plain_webdataset(url: str) -> Callable[[], int]:
    """Tars in their order, each pair's images cropped at one drawn place."""
    dataset, random = Dataset(url), np.random.default_rng(0)
    tars = [f"{url}/{shard.name}.tar" for shard in dataset.manifest.shards]

    def cropped(sample: dict[str, bytes]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        names = [name for name in sample if name.startswith(("real.", "fake."))]
        images = [simplejpeg.decode_jpeg(sample[name]) for name in sorted(names)]
        height, width, _ = images[0].shape
        top, left = random.integers(0, (height - CROP + 1, width - CROP + 1))
        return np.stack([image[top : top + CROP, left : left + CROP] for image in images])

    def epoch() -> int:
        samples = wds.WebDataset(tars, shardshuffle=False, empty_check=False).map(cropped)
        return sum(len(batch) for batch in samples.batched(BATCH, collation_fn=np.stack))

    return epoch


def cpu_ms(way: Callable[[], int]) -> float:
    """CPU milliseconds for each pair of one epoch."""
    start = time.process_time()
    pairs = way()
    return (time.process_time() - start) / pairs * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="local dataset of JPEGs of at least 96 pixels a side")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    ways = {"pairs of this loader": ours(chosen.url), "webdataset, simplejpeg": plain_webdataset(chosen.url)}
    for way in ways.values():
        way()  # compiles, or fills caches
    found = {name: [] for name in ways}
    for _ in range(chosen.rounds):
        for name, way in ways.items():
            found[name].append(cpu_ms(way))
    for name, each in found.items():
        sys.stdout.write(f"{name:24} {statistics.median(each):6.3f} CPU ms a pair\n")
    ratios = [one / other for one, other in zip(*found.values(), strict=True)]
    sys.stdout.write(f"{'ratio':24} {statistics.median(ratios):6.3f}\n")


if __name__ == "__main__":
    main()
