"""In: the pixels of one pair. Out: the same pair after an op, bit for bit as the tensor code of `train.ops`.

The loops over the pixels are compiled by numba, which needs about 100 MiB, and about ten seconds to compile
once on each machine; then they are in its cache. So this package is imported only when the first pair is
augmented on a CPU, not on a GPU, and in the loading process only for a recipe that degrades by blur or noise.
"""

from train.ops.cpu.blur import blur_planes as blur_planes
from train.ops.cpu.jitter import grey_image as grey_image
from train.ops.cpu.jitter import jitter_image as jitter_image
from train.ops.cpu.jpeg import jpeg_image as jpeg_image
from train.ops.cpu.layout import crop_turned as crop_turned
from train.ops.cpu.layout import look_up as look_up
from train.ops.cpu.layout import to_planes as to_planes
from train.ops.cpu.noise import add_noise as add_noise
