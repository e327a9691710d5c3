"""Braces in file and field names, read as webdataset reads them: ``{000..099}.tar``, ``real.{jpg,png}``."""

from recon.base.errors import UserError


def expand(text: str) -> list[str]:
    """All texts that a text with braces stands for.

    Raises:
        UserError: the braces don't match.
    """
    # imported late, because few sources have braces
    from braceexpand import braceexpand

    try:
        return list(braceexpand(text))
    except ValueError as error:
        raise UserError(
            f"{text}: the braces don't match ({error}), expected for example {{000..099}}.tar"
        ) from error
