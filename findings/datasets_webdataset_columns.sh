#!/usr/bin/env bash
# datasets 5.2.0 reads a WebDataset tar of mixed image types by the fields of its first five samples.
#
# What is run: a tar of ten samples; five hold x.png, then five hold x.jpg. load_dataset("webdataset") reads it.
# Expected: ten images. Seen: the column x.jpg does not exist, and the last five rows come with x.png=None,
# without an error or a warning. (The columns are inferred from the first samples alone.)
# Matters to whoever packs photographs under their own suffixes and shares the tars.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0
cd "$work"
HF_HOME="$work/hf" HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import io
import tarfile

from datasets import load_dataset
from PIL import Image

with tarfile.open("mixed.tar", "w") as tar:
    for number in range(10):
        kind = "png" if number < 5 else "jpg"
        data = io.BytesIO()
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(data, {"png": "PNG", "jpg": "JPEG"}[kind])
        info = tarfile.TarInfo(f"{number:03d}.x.{kind}")
        info.size = len(data.getvalue())
        tar.addfile(info, io.BytesIO(data.getvalue()))

found = load_dataset("webdataset", data_files={"train": "mixed.tar"}, split="train")
images = sum(row["x.png"] is not None for row in found)
print(f"columns: {sorted(found.column_names)}; rows: {len(found)}; with an image: {images}")
assert "x.jpg" not in found.column_names, "a column for the later suffix: the behaviour has changed"
assert len(found) == 10 and images == 5, "the later rows have images: the behaviour has changed"
PY
# Output seen:
# columns: ['__key__', '__url__', 'x.png']; rows: 10; with an image: 5
