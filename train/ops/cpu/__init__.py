"""The ops on a CPU: loops over the pixels of one pair, compiled by numba, bit for bit the tensor paths.

Imported where the first pair is augmented on a CPU, and neither on a GPU nor in the loading process:
numba takes some 100 MiB, and some ten seconds to compile, once on each machine: then its cache has it.
"""

from train.ops.cpu.blur import blur_planes as blur_planes
from train.ops.cpu.jitter import grey_image as grey_image
from train.ops.cpu.jitter import jitter_image as jitter_image
from train.ops.cpu.jpeg import jpeg_image as jpeg_image
from train.ops.cpu.layout import crop_turned as crop_turned
from train.ops.cpu.layout import look_up as look_up
from train.ops.cpu.layout import to_planes as to_planes
from train.ops.cpu.noise import add_noise as add_noise
