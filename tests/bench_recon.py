"""How fast each class of autoencoder runs through Pairstream, beside a plain loop over the bare model.

    python tests/bench_recon.py                                    # every class, tiny, on the CPU
    python tests/bench_recon.py --width 128 --device cuda --side 512 --batch 8 --dtype bfloat16

"Loop" encodes and decodes tensors that lie on the device already, and leaves the result there. "Ours" begins
and ends with uint8 images in memory: it pads, scales, moves, crops and rounds besides. Both take the same
batches, or single images where the class or the call by hand bears no others. With --width, KL, Flux2 and DC
alone run, as deep as the published models, and as wide if it is 128. Rounds alternate; medians are printed.
On a CPU the seconds are those of the process, so that other load on the machine disturbs little.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from adapter_instances import INSTANCES, Instance, by_hand, transformers_or_stand_in, write
from conftest import photograph

from recon.models.config import ReconstructionConfig
from recon.models.load import load
from recon.reconstruct import reconstruct_batch


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="; ".join(INSTANCES))
    parser.add_argument("--width", type=int, default=0, help="channels of the first stage")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    instances = _wide(given.width) if given.width else INSTANCES
    chosen = {name: each for name, each in instances.items() if not given.names or name in given.names}
    sys.stdout.write("| instance | loop, images/s | ours, images/s | share |\n| --- | --- | --- | --- |\n")
    with tempfile.TemporaryDirectory() as scratch, transformers_or_stand_in():
        for name, instance in chosen.items():
            loop, ours = _measure(instance, write(instance, Path(scratch) / name), given)
            sys.stdout.write(f"| {name} | {loop:.2f} | {ours:.2f} | {ours / loop:.3f} |\n")
            sys.stdout.flush()


def _wide(width: int) -> dict[str, Instance]:
    """The instances with the widths and depths of the published models, times ``width / 128``."""
    kl = tuple(width * factor for factor in (1, 2, 4, 4))
    dc = tuple(width * factor for factor in (1, 2, 4, 4, 8, 8))
    names = ("encoder_block_out_channels", "decoder_block_out_channels")
    deep = {"encoder_layers_per_block": (2, 2, 2, 3, 3, 3), "decoder_layers_per_block": (3,) * 6}
    scales = {f"{part}_qkv_multiscales": ((), (), (), (5,), (5,), (5,)) for part in ("encoder", "decoder")}
    changes: dict[str, dict[str, Any]] = {
        "kl-4": {"block_out_channels": kl, "layers_per_block": 2, "norm_num_groups": 32},
        "flux2": {"block_out_channels": kl, "layers_per_block": 2, "norm_num_groups": 32},
        "dc": {**dict.fromkeys(names, dc), **deep, **scales, "attention_head_dim": 32},
    }
    return {
        name: replace(INSTANCES[name], settings=INSTANCES[name].settings | change)
        for name, change in changes.items()
    }


def _measure(instance: Instance, folder: Path, given: argparse.Namespace) -> tuple[float, float]:
    """Images/s of the loop and of ours: medians over the rounds, in which they take turns."""
    model_class = instance.model_class
    side = 256 if model_class == "AutoencoderRAE" else given.side
    config = ReconstructionConfig(
        autoencoder=str(folder), device=given.device, dtype=given.dtype, threads=given.threads
    )
    autoencoder: Any = load(config)
    images = [photograph(side, side, seed) for seed in range(given.batch)]
    keys = [str(seed) for seed in range(given.batch)]
    device = autoencoder._model.device
    x = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images]).to(device) / 255
    together = given.batch
    if autoencoder._coder._alone or model_class == "ConsistencyDecoderVAE":
        together = 1

    def loop() -> None:
        for piece in x.split(together):
            by_hand(autoencoder._model, instance, piece, 0)

    def ours() -> None:
        for start in range(0, given.batch, together):
            chosen = slice(start, start + together)
            reconstruct_batch(autoencoder, images[chosen], keys[chosen])

    ways = (loop, ours)
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_ in range(given.rounds + 1):
        for way, taken in zip(ways, seconds, strict=True):
            duration = _timed(way, device)
            if round_:  # the first round warms up
                taken.append(duration)
    loop_s, ours_s = (statistics.median(taken) for taken in seconds)
    return given.batch / loop_s, given.batch / ours_s


def _timed(run: Callable[[], object], device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    with torch.inference_mode():
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


if __name__ == "__main__":
    main()
