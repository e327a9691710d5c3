#!/usr/bin/env bash
# The whole job on a laptop: photographs -> shards of pairs -> a trained detector -> a report.
#
#   launch/demo.sh [OUT]      (out/demo of the repository by default; what the demo made there before is replaced)
#
# The photographs come with scikit-image and scikit-learn. They are split by photograph, so
# that no tile of a held-out one is ever trained on.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/out/demo}
[ "${out:0:1}" = / ] || out=$PWD/$out # as the caller sees it
mark=$out/.made-by-demo # only a folder that has it is ever emptied
cd "$root"
export PYTHON=${PYTHON:-.venv/bin/python}

if [ -e "$out" ] && [ ! -d "$out" ]; then
  echo "error: $out is no folder; choose another OUT" >&2
  exit 2
fi
if [ -d "$out" ] && [ ! -e "$mark" ] && [ -n "$(ls -A -- "$out")" ]; then
  echo "error: $out holds files that the demo did not make; choose another OUT, or delete it yourself" >&2
  exit 2
fi
rm -rf -- "$out"
mkdir -p -- "$out/photographs"
touch -- "$mark"
packages=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp "$packages"/skimage/data/{astronaut,brick,camera,chelsea,coffee,coins,grass,gravel,moon,motorcycle_left}.png \
  "$packages"/skimage/data/rocket.jpg "$packages"/sklearn/datasets/images/{china,flower}.jpg "$out/photographs"

"$PYTHON" -m pack --source "$out/photographs" --out "$out/shards" --autoencoder tiny \
  --tile 128 --tile_stride 64 --val_fraction 0.25
"$PYTHON" -m pack.verify "$out/shards/val"
"$PYTHON" -m pack.preview "$out/shards/val" --out "$out/preview.png"

NPROC_PER_NODE=2 launch/torchrun.sh --config configs/demo.yaml --out "$out/run" \
  --data.train "$out/shards/train" --data.val "$out/shards/val"

"$PYTHON" -m train.evaluate --checkpoint "$out/run/best.pt" --data "$out/shards/val" --out "$out/evaluation"
"$PYTHON" -m train.report --run "$out/run" --evaluation "$out/evaluation" \
  --preview "$out/preview.png" --out "$out/report.md"
