"""Makes control pairs for the network: pairs whose halves differ in their coding, and in no decoder's trace.

* A pair whose KEY.json names the autoencoder ``identity`` is taken as it is stored: no decoder was there.
* Any other pair gets equal content in both halves, each coded as its half is stored. Where both are JPEG, the
  content is that of the real image, so the fake is the identity's: one more compression. Where one
  half alone is JPEG, the content is that of the other, which no JPEG of this pair has touched.
* Where both are lossless, the halves of such a pair are equal. What the photograph's *earlier* compressions
  left in the real image alone, and a decoder removed, is not seen here; the statistics look for it.
"""

import json

from pack.dataset.pairs import DamagedPair, StoredPair
from pack.inspect.audit.measured.images import CLASSES, MAX_PIXELS, member, recoded
from recon.base.errors import RejectedImageError
from recon.image.codec import Pixels, decode, is_lossless_webp


def control(pair: StoredPair | DamagedPair) -> tuple[Pixels, Pixels]:
    """The halves of the control pair of a stored pair, each (H, W, C) uint8: real, fake.

    Raises:
        RejectedImageError: the pair can't be read, or the coding of one half can't be repeated.
    """
    if isinstance(pair, DamagedPair):
        raise RejectedImageError(pair.cause)
    files = [member(pair, name) for name in CLASSES]
    real, fake = (decode(data, max_pixels=MAX_PIXELS, convert=True) for data in files)
    if _is_identity(pair):
        return real.pixels, fake.pixels
    for data in files:
        if data[8:12] == b"WEBP" and not is_lossless_webp(data):
            raise RejectedImageError("a lossy WebP can't be repeated; its quality is not in the file")
    if fake.codec == "jpeg":
        return real.pixels, recoded(real.pixels, fake)
    return (recoded(fake.pixels, real) if real.codec == "jpeg" else fake.pixels), fake.pixels


def _is_identity(pair: StoredPair) -> bool:
    return bool(json.loads(pair.members.get("json", b"{}")).get("autoencoder") == "identity")
