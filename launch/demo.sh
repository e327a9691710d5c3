#!/usr/bin/env bash
# All steps on a laptop: photographs -> shards of pairs -> a trained detector -> a report, OUT/report.html.
#
#   launch/demo.sh [OUT]      (by default out/demo of the repository; replaces what an earlier demo made)
#
# The photographs come with scikit-image and scikit-learn. Whole photographs are held out for validation, so
# no tile of a held-out photograph is used for training.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -gt 1 ] || [[ ${1:-} == -* ]]; then
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
  [[ ${1:-} == -h || ${1:-} == --help ]] && exit 0
  echo "error: expected no argument or one folder, found: $*" >&2
  exit 2
fi
out=${1:-$root/out/demo}
[ "${out:0:1}" = / ] || out=$PWD/$out # relative to the caller's folder, before the cd below
mark=$out/.made-by-demo # the demo deletes a folder only if it holds this file
cd "$root"
export PYTHON=${PYTHON:-.venv/bin/python}

if [ -L "$out" ] || { [ -e "$out" ] && [ ! -d "$out" ]; }; then
  echo "error: $out is a link or a file, expected a folder; choose another OUT" >&2
  exit 2
fi
if [ -d "$out" ] && [ ! -e "$mark" ] && [ -n "$(ls -A -- "$out")" ]; then
  echo "error: $out holds files that the demo did not make; choose another OUT, or delete it yourself" >&2
  exit 2
fi
rm -rf -- "$out"
mkdir -p -- "$out/photographs"
touch -- "$mark" # before the long steps: a demo that was stopped can then be started again
packages=$("$PYTHON" -c 'import importlib.util as i; print(i.find_spec("skimage").submodule_search_locations[0] + "/..")')
cp "$packages"/skimage/data/{astronaut,brick,camera,chelsea,coffee,coins,grass,gravel,moon,motorcycle_left}.png \
  "$packages"/skimage/data/rocket.jpg "$packages"/sklearn/datasets/images/{china,flower}.jpg "$out/photographs"

"$PYTHON" -m pack --source "$out/photographs" --out "$out/shards" --autoencoder tiny \
  --tile 128 --tile_stride 64 --val_fraction 0.25
"$PYTHON" -m pack.verify "$out/shards/val"
"$PYTHON" -m pack.preview "$out/shards/val" --out "$out/preview.png"

NPROC_PER_NODE=2 launch/torchrun.sh --config configs/demo.yaml --out "$out/run" \
  --data.train "$out/shards/train" --data.val "$out/shards/val"

"$PYTHON" -m train.evaluate --checkpoint "$out/run/best.pt" --data "$out/shards/val" --out "$out/evaluation"

note="What figures near 1.000 mean here: the detector tells tiles of three photographs that it was not trained on from \
their reconstructions by one toy autoencoder. The pipeline works, from the first step to the last.
What they do not mean: that it finds generated images elsewhere. The tiles overlap by half, so they are three cases \
rather than 130, and the intervals know of no other photograph. The epoch was chosen on these same tiles. Two of the \
three photographs are JPEG files, whose traces their reconstructions lack. Other autoencoders, whole generated \
images, compression and scaling were not tried."
"$PYTHON" -m train.report --run "$out/run" --evaluation "$out/evaluation" --title "Demo" --note "$note" \
  --preview "$out/preview.png" --out "$out/report.md"
printf '\n%s\n\nopen %s\n' "$note" "$out/report.html"
