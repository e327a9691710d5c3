"""Braces in names of files and fields, as webdataset reads them: ``{000..099}.tar``, ``real.{jpg,png}``."""

from recon.base.errors import UserError


def expand(text: str) -> list[str]:
    """The texts that the braces of one stand for.

    Raises:
        UserError: the braces don't match.
    """
    from braceexpand import braceexpand

    try:
        return list(braceexpand(text))
    except ValueError as error:
        raise UserError(
            f"{text}: braces that don't match ({error}), expected such as {{000..099}}.tar"
        ) from error
