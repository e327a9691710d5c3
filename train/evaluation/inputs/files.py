"""Sources whose images are files, or parts of files, that are read one by one."""

from collections.abc import Sequence

from pack.base.items import File
from recon.base.errors import RejectedImageError
from train.evaluation.inputs.source import ImageSource, Listed, Read


def source_of_files(kind: str, listed: Sequence[Listed], files: Sequence[File]) -> ImageSource:
    """A source of files.

    Args:
        kind: see `ImageSource.kind`.
        listed: the images.
        files: that of each image.
    """

    def read(first: int, count: int) -> list[Read]:
        return [_read(file) for file in files[first : first + count]]

    return ImageSource(kind=kind, listed=listed, read=read)


def _read(file: File) -> Read:
    try:
        return file.read()
    except RejectedImageError as error:
        return error
