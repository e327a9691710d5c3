"""``README.md``: the card of a dataset, which people and Hugging Face's hub read.

Its text is a function of the manifests alone, so that every process and every rerun writes the same bytes.
"""

import json
from collections.abc import Sequence
from typing import Any

from pack.card.fields import Fields
from pack.card.front_matter import Part, front_matter, title
from pack.card.snippets import snippets
from recon.base.errors import UserError

CARD = "README.md"
"""Name of the file beside the manifest."""

_OURS = "<!-- Written by Pairstream. -->"
AUDIT, AUDIT_END = "<!-- audit -->", "<!-- end of audit -->"
_UNAUDITED = "Nothing yet: `python -m pack.audit {places} --card` writes its findings here."

_TEXT = """\
{front}{ours}

# {title}

Aligned pairs for training detectors of generated images: a photograph, `{real}`, and its reconstruction by
the autoencoder of a latent generator, `{fake}`{more}. Both have the same size. \
Apart from the decoder's trace,
nothing should tell them apart.

{about}
{table}Autoencoder: {autoencoders}. How reconstructions are compressed: {codec}.

## How to read it

{snippets}
## What the audit said

{audit}
{unaudited}
{audit_end}

## How it was made

```json
{provenance}
```
"""

_RECORD = """\
`json` tells where a pair comes from and how it was made. The suffix of an image may differ from its bytes:
decoders should look at the content, as those below do.
"""
_FOREIGN = """\
Others wrote the tars. `datasets` reads only those of their fields that are among the features above.{lone}
"""
_LONE = """ \
{count} of their samples are no pairs (`rejected.jsonl`): other readers meet them too, and find an image \
missing or unlike the other."""


def card(parts: Sequence[Part]) -> bytes:
    """The card of a dataset.

    Args:
        parts: its splits, or the whole dataset as the only one.
    """
    first = parts[0]
    fields, provenance = Fields.of(first.manifest), dict(first.manifest.provenance)
    provenance.pop("plan", None)  # a hash that tells a reader nothing
    rejected = 0 if fields.has_record else sum(part.manifest.rejected for part in parts)
    code = snippets(fields, first.split, first.folder, rejected)
    return _TEXT.format(
        front=front_matter(parts),
        ours=_OURS,
        title=title(parts),
        real="` or `".join(fields.real),
        fake="` or `".join(fields.fake),
        more=_more(fields),
        about=_RECORD if fields.has_record else _foreign(rejected),
        table=_table(parts),
        autoencoders=_autoencoders(provenance["autoencoder"]),
        codec=f"`{provenance['options']['codec']}`" if "options" in provenance else "not known",
        snippets="\n".join(f"By `{name}`:\n\n```python\n{lines}```\n" for name, lines in code.items()),
        audit=AUDIT,
        unaudited=_UNAUDITED.format(places=" ".join(f"FOLDER/{part.folder}".rstrip("/") for part in parts)),
        audit_end=AUDIT_END,
        provenance=json.dumps(provenance, indent=1, sort_keys=True, ensure_ascii=False),
    ).encode()


def is_ours(data: bytes) -> bool:
    """Whether a README.md is a card that this module wrote, and not the text of somebody else."""
    return _OURS.encode() in data


def is_of(data: bytes, parts: Sequence[Part]) -> bool:
    """Whether a card describes these splits: their numbers of pairs, shards and bytes, and no other."""
    return _table(parts).encode() in data


def with_audit(data: bytes, findings: str) -> bytes:
    """A card with the findings of an audit in place of earlier ones.

    Raises:
        UserError: it has no place for them.
    """
    before, begin, rest = data.partition(AUDIT.encode())
    _, end, after = rest.partition(AUDIT_END.encode())
    if not end:
        raise UserError(
            f"expected the lines {AUDIT} and {AUDIT_END}, between which an audit writes; add them"
        )
    return b"".join((before, begin, b"\n", findings.strip().encode(), b"\n", end, after))


def _foreign(rejected: int) -> str:
    return _FOREIGN.format(lone=_LONE.format(count=rejected) if rejected else "")


def _more(fields: Fields) -> str:
    """The further reconstructions, in the sentence that names the first."""
    several = ", ".join(f"`{'` or `'.join(names)}`" for names in fields.more.values())
    return f" (others of the same photograph: {several})" if several else ""


def _table(parts: Sequence[Part]) -> str:
    rows = ["split", "pairs", "shards", "bytes", "left out"], ["---"] * 5, *map(_row, parts)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + "\n"


def _row(part: Part) -> list[str]:
    manifest = part.manifest
    counts = manifest.pairs, len(manifest.shards), manifest.bytes, manifest.rejected
    return [part.split, *map(str, counts)]


def _autoencoders(made_by: dict[str, Any] | list[dict[str, Any]]) -> str:
    several = made_by if isinstance(made_by, list) else [made_by]
    return ", ".join(f"`{one['autoencoder']}`" for one in several)
