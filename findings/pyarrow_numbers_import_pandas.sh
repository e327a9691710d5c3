#!/usr/bin/env bash
# pyarrow 26.0.1: a column of integers as a numpy array imports pandas, where that is installed.
#
# What is run: an int64 column of three numbers is read from a Parquet file, and made a numpy array by
# ChunkedArray.to_numpy, Array.to_numpy, numpy.asarray, numpy.from_dlpack and ChunkedArray.to_pylist, each in a
# process of its own; it says whether pandas was imported, and how many more modules there are.
# Expected: no pandas, as nothing of it is given or asked for. Seen: to_numpy and numpy.asarray import it (some
# 600 modules more, .3 s, 30 MB), from_dlpack and to_pylist do not.
# Matters to every process that reads an index, as each worker of a loader does: pack/dataset/index.py takes
# its columns by from_dlpack.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6 pandas==3.1.1
cat > "$work/column.py" <<'PY'
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

name, path = sys.argv[1:]
if name == "write":
    pq.write_table(pa.table({"offset": pa.array([1, 2, 3], pa.int64())}), path)
    sys.exit()
ways = {
    "ChunkedArray.to_numpy": lambda column: column.to_numpy(),
    "Array.to_numpy": lambda column: column.chunk(0).to_numpy(),
    "numpy.asarray": lambda column: np.asarray(column.chunk(0)),
    "numpy.from_dlpack": lambda column: np.from_dlpack(column.chunk(0)),
    "ChunkedArray.to_pylist": lambda column: column.to_pylist(),
}
column = pq.ParquetFile(path).read()["offset"]
before = len(sys.modules)
assert list(ways[name](column)) == [1, 2, 3]
more = "hundreds of modules more" if len(sys.modules) > before + 200 else "no more modules than a few"
print(f"{name}: {'pandas' if 'pandas' in sys.modules else 'no pandas'}, {more}")
PY
"$work/venv/bin/python" "$work/column.py" write "$work/index.parquet"
seen=$(for way in ChunkedArray.to_numpy Array.to_numpy numpy.asarray numpy.from_dlpack ChunkedArray.to_pylist; do
  "$work/venv/bin/python" "$work/column.py" "$way" "$work/index.parquet"
done)
echo "$seen"
expected="ChunkedArray.to_numpy: pandas, hundreds of modules more
Array.to_numpy: pandas, hundreds of modules more
numpy.asarray: pandas, hundreds of modules more
numpy.from_dlpack: no pandas, no more modules than a few
ChunkedArray.to_pylist: no pandas, no more modules than a few"
[[ $seen == "$expected" ]] || { echo "the behaviour has changed"; exit 1; }
# Output seen:
# ChunkedArray.to_numpy: pandas, hundreds of modules more
# Array.to_numpy: pandas, hundreds of modules more
# numpy.asarray: pandas, hundreds of modules more
# numpy.from_dlpack: no pandas, no more modules than a few
# ChunkedArray.to_pylist: no pandas, no more modules than a few
