"""Datasets of mixed codecs, and what Hugging Face's datasets reads of them in a process of its own."""

import hashlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from conftest import ORIENTATION, photograph, python, save
from pack_runs import config
from PIL import Image, ImageOps

from pack.dataset.dataset import iterate_pairs
from pack.publish.packing import pack

PAIRS = 14  # 8 PNG, then 6 JPEG: more PNG come first than datasets looks at for the columns
Row = dict[str, Any]

_SCRIPT = """
import hashlib, json, sys
from datasets import disable_progress_bars, load_dataset

def plain(value):  # of an image its pixels
    return hashlib.sha256(value.tobytes()).hexdigest() if hasattr(value, "tobytes") else value

disable_progress_bars()
cache, *asked = sys.argv[1:]
for line in asked:
    where, options = json.loads(line)
    for streaming in (False, True):
        found = load_dataset(where, streaming=streaming, cache_dir=cache, **options).items()
        rows = {split: [{k: plain(v) for k, v in row.items()} for row in rows] for split, rows in found}
        print(json.dumps(rows))
"""
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def write_mixed(source: Path) -> Path:
    """Small photographs: PNG, then rotated JPEG, so that the later JSON says what the first leaves open."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for number in range(PAIRS):
        name = f"a/{number:02}.png" if number < 8 else f"b/{number:02}.jpg"
        save(source / name, photograph(24, 32, number), **({} if number < 8 else {"exif": exif}))
    return source


def packed_into(out: Path, **options: Any) -> Path:
    """The mixed photographs, packed in shards of four."""
    pack(config(write_mixed(out.parent / "photos"), out, **options))
    return out


def load(cache: Path, asked: Iterable[tuple[str, Row]]) -> list[dict[str, list[Row]]]:
    """For each (path, options) of ``load_dataset`` the rows by split, map style and then streamed.

    Images are given as the SHA-256 of their pixels.
    """
    lines = [json.dumps(one) for one in asked]
    ended = python(_SCRIPT, cache, *lines, env=os.environ | OFFLINE | {"HF_HOME": str(cache)})
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def stored(url: Path) -> dict[str, tuple[str, str]]:
    """By key, the SHA-256 of the pixels of real and fake, upright as datasets gives them.

    Our reader reads the bytes, and Pillow decodes them.
    """
    return {pair.key: (_hash(pair.real), _hash(pair.fake)) for pair in iterate_pairs(str(url))}


def _hash(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as image:
        return hashlib.sha256(ImageOps.exif_transpose(image).tobytes()).hexdigest()
