"""Reads the text files of a run and an evaluation, from a directory or a URL."""

from pack.storage import open_store
from recon.base.errors import MissingError, UserError


def text_of(folder: str, name: str, option: str) -> str:
    """The text of a file.

    Args:
        folder: directory or URL.
        name: of the file in it.
        option: that named the folder, for the message.

    Raises:
        UserError: there is no such file, or it is not text in UTF-8.
    """
    path = f"{folder.rstrip('/')}/{name}"
    try:
        return open_store(folder).read(name).decode("utf-8")
    except MissingError as error:
        raise UserError(f"{path} can't be read: No such file; check {option}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 ({error}); check {option}") from error
