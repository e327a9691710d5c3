"""Which card has to be written: none over a README.md of somebody else, none twice."""

import logging
from collections.abc import Collection, Iterable

from pack.card.card import CARD, card, is_of, is_ours, with_audit
from pack.card.front_matter import Part
from pack.shard.manifest import NAME, PLAN, Manifest, read_manifest
from pack.storage import Store, open_store
from recon.base.errors import UserError
from recon.base.paths import folder_name, split_path

_LOG = logging.getLogger(__name__)


def new_card(store: Store, manifest: Manifest, names: Collection[str]) -> bytes | None:
    """The card to write beside a manifest that is not written yet; None where somebody else's README.md lies.

    Args:
        store: where the dataset is.
        manifest: of the dataset.
        names: of all files there.
    """
    there = _present(store)
    if there is None or is_ours(there):
        return card([Part(manifest=manifest, names=names)])
    _LOG.warning(
        "%s/%s stays as it is; load_dataset of Hugging Face's datasets may read the indexes instead of the "
        "images, unless you add configs with data_files: '*.tar' at its top",
        *(store.url, CARD),
    )
    return None


def new_card_above(url: str, splits: Iterable[str]) -> bytes | None:
    """The card to write in the folder above splits; None if one is unfinished, or nothing has to be written.

    A card of other splits or numbers has to be replaced. A card of these splits stays: its owner may have
    named the license, and an audit its findings.

    Args:
        url: directory or URL that holds the splits.
        splits: their folders.
    """
    parts: list[Part] = []
    for split in splits:
        store = open_store(f"{url.rstrip('/')}/{split}")
        if store.exists(PLAN):
            return None  # the process that completes this split comes here too
        if store.exists(NAME):  # otherwise none of its images became a pair
            parts.append(Part(manifest=read_manifest(store), names=store.names(), folder=f"{split}/"))
    there = _present(open_store(url))
    if parts and (there is None or (is_ours(there) and not is_of(there, parts))):
        return card(parts)
    return None


def cards(url: str, manifest: Manifest) -> list[Store]:
    """Where the cards of a finished dataset lie: beside its manifest, and that of all splits above it.

    Raises:
        UserError: the README.md beside the manifest is missing, or not ours.
    """
    beside = open_store(url)
    there = _present(beside)
    if there is None or not is_ours(there):
        what = "is missing" if there is None else "is not of pack"
        raise UserError(f"{beside.url}/{CARD} {what}, expected the card that packing writes; drop --card")
    if manifest.split is None or folder_name(url) != manifest.split:
        return [beside]
    above = open_store(split_path(url.rstrip("/"))[0])
    there = _present(above)
    return [beside] if there is None or not is_ours(there) else [beside, above]


def add_findings(store: Store, findings: str) -> None:
    """Puts the findings of an audit into a card, in place of earlier ones.

    Raises:
        UserError: the card has no place for them, or can't be written.
    """
    try:
        text = with_audit(store.read(CARD), findings)
    except UserError as error:
        raise UserError(f"{store.url}/{CARD}: {error}") from error
    with store.publish(CARD) as file:
        file.write(text)


def _present(store: Store) -> bytes | None:
    return store.read(CARD) if store.exists(CARD) else None
