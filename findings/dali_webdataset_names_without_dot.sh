#!/usr/bin/env bash
# DALI 2.4.0 takes a tar member without a dot for a sample of its own; webdataset 1.0.2 passes it over.
#
# What is run: a tar of three samples (NAME.cls, NAME.txt), each followed by a member "extra/NAME", and the same
# with ".NAME.extra" instead. webdataset and DALI's webdataset reader read both; DALI with
# missing_component_behavior="error", as one sets it to notice samples that lack a field.
# Expected: three samples from both tars by both readers. Seen: so with the hidden names; with names that have no
# dot, webdataset gives three samples, and DALI refuses the tar ("Underful sample").
# Matters to whoever adds members for readers of their own to a WebDataset: give them hidden names.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    nvidia-dali-cuda130==2.4.0 webdataset==1.0.2 numpy==2.3.5
cd "$work"
"$work/venv/bin/python" - <<'PY'
import io
import tarfile

import webdataset as wds
from nvidia.dali import fn, pipeline_def

NAMES = {"no dot": "extra/{}", "hidden": ".{}.extra"}


def write(path, pattern):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key in ("a", "b", "c"):
            for name in (f"{key}.cls", f"{key}.txt", pattern.format(key)):
                info = tarfile.TarInfo(name)
                info.size = 3
                tar.addfile(info, io.BytesIO(b"123"))


@pipeline_def(batch_size=1, num_threads=1, device_id=None)
def pairs(path):
    cls, txt = fn.readers.webdataset(
        paths=[path], ext=["cls", "txt"], name="pairs", missing_component_behavior="error"
    )
    return cls, txt


def by_dali(path):
    try:
        return f"{pairs(path).epoch_size('pairs')} samples"
    except RuntimeError as error:
        return next(word for word in ("Underful sample",) if word in str(error))


found = {}
for what, pattern in NAMES.items():
    path = f"{what.replace(' ', '_')}.tar"
    write(path, pattern)
    by_webdataset = sum(1 for _ in wds.WebDataset([path], shardshuffle=False))
    found[what] = (f"{by_webdataset} samples", by_dali(path))
    print(f"{what}: webdataset {found[what][0]}, DALI {found[what][1]}")
assert found == {
    "no dot": ("3 samples", "Underful sample"),
    "hidden": ("3 samples", "3 samples"),
}, "the behaviour has changed"
PY
# Output seen:
# no dot: webdataset 3 samples, DALI Underful sample
# hidden: webdataset 3 samples, DALI 3 samples
