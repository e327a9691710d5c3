"""The closing lines of packing: the pairs, what was rejected and why, and what to know about the pairs."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pack.shard.manifest import Manifest
from pack.shard.rejected import REJECTED
from pack.storage import Store
from recon.base.progress import counted
from recon.base.rejections import causes, images_in, won_by_converting
from recon.image.codec import LOSSY_WEBP
from recon.image.opened import LOSSY_ONCE

_LOG = logging.getLogger(__name__)


def report(
    store: Store, manifest: Manifest, rejected: Sequence[dict[str, Any]], converted: Counter[str]
) -> None:
    """Logs the closing lines.

    Args:
        store: the output.
        manifest: of the finished dataset.
        rejected: lines of rejected.jsonl.
        converted: pairs by the values of the index column ``converted``, and by their traces.
    """
    size = f"{counted(len(manifest.shards), 'shard')}, {manifest.bytes / 1e6:.1f} MB"
    _LOG.info("%s in %s -> %s", counted(manifest.pairs, "pair"), size, store.url)
    if traced := _traced(manifest, converted):
        _LOG.warning("%s", traced)
    if rejected:
        what, where = counted(images_in(rejected), "image"), f"{store.url}/{REJECTED}"
        told = causes(rejected) + won_by_converting(rejected)
        _LOG.warning("%s rejected, listed in %s: %s", what, where, told)


def _traced(manifest: Manifest, converted: Counter[str]) -> str:
    """Warns of pairs whose real image alone has the traces of an earlier codec; empty if there are none."""
    counts = [f"{converted[codec]} of {codec}" for codec in (*LOSSY_ONCE, LOSSY_WEBP) if converted[codec]]
    if not counts or manifest.provenance["options"]["codec"] == "both":
        return ""
    return (
        f"{', '.join(counts)} among {counted(manifest.pairs, 'pair')}: only their real images have the "
        "traces of that compression, which a detector may learn; --codec both compresses both images alike"
    )
