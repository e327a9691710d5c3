"""Error messages for failed reads and writes, without secrets."""

import errno
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pack.storage.retry import TransientError
from recon.base.errors import MissingError, UserError

Data = TypeVar("Data", bytes, memoryview)

_SECRETS = (
    # A user name and password before a host. The password may hold all but slashes and spaces.
    (re.compile(r"(?<=://)[^/@:\s]*:[^/\s]*@"), ""),
    (re.compile(r"(?i)(https?://)[^/@\s]*@"), r"\1"),  # in an HTTP URL, a user name alone may be a token
    (  # keys and signatures of a query, as in presigned URLs; sig is Azure's
        re.compile(
            r"(?i)((?:[\w-]*(?:signature|credential|token|accesskeyid|secret\w*|password)|sig)=)[^&\s'\")]*"
        ),
        r"\1...",
    ),
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*).*"), r"\1..."),
)
_SECRET = re.compile(r"(?i)://[^/@:]*:[^/]*@|https?://[^/]*@")
_FINAL = (NotImplementedError, TypeError, ValueError, AttributeError, ImportError)  # no retry helps
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # repeating does not make room either
_PACKAGES = (
    dict.fromkeys(("http", "https"), "-e '.[http]'")
    | dict.fromkeys(("gs", "gcs"), "gcsfs")
    | dict.fromkeys(("abfs", "abfss", "az"), "adlfs")
    | dict.fromkeys(("sftp", "ssh"), "paramiko")
)
"""What pip is to install for a scheme, in addition to fsspec."""

_LOG = logging.getLogger(__name__)
_TOLD: set[str] = set()
_TELLING = threading.Lock()


class BusyError(UserError):
    """Another process is writing the same object now."""


def warn_once(text: str) -> None:
    """Logs a warning the first time that this process has it to tell."""
    with _TELLING:  # many threads meet the same store at once
        is_new = text not in _TOLD
        _TOLD.add(text)
    if is_new:
        _LOG.warning("%s", text)


def without_secrets(text: object) -> str:
    """`text` without the passwords, keys and signatures of URLs and headers."""
    plain = str(text)
    for pattern, replacement in _SECRETS:
        plain = pattern.sub(replacement, plain)
    return plain


def refuse_secrets(url: str) -> None:
    """Raises a UserError if a URL holds a password or signature, because URLs get into logs and manifests.

    A user name (``sftp://user@host``) or a container (``abfs://container@account``) is no secret.
    """
    # The query of an HTTP URL may be a signature under any name.
    if _SECRET.search(url) or (url.startswith("http") and "?" in url):
        raise UserError(
            f"{without_secrets(url).split('?')[0]}: a URL with a password or signature gets into logs; "
            "give credentials in environment variables or in the configuration files of boto3 or fsspec"
        )


def whole(data: Data, where: str, start: int, length: int) -> Data:
    """Returns `data` if it has `length` bytes; a UserError if not."""
    if len(data) != length:
        raise ends_early(where, start, length, len(data))
    return data


def ends_early(where: str, start: int, length: int, found: int) -> UserError:
    """The error for an object that is too short for a range."""
    return UserError(
        f"{where} ends early: expected {length} bytes at {start}, found {found}; "
        "run python -m pack.verify on the dataset"
    )


def replaced(where: str) -> UserError:
    """The error for an object that is no longer the pinned version."""
    return UserError(
        f"{where} was replaced while this run reads it; leave a dataset alone while it is read, "
        "or start the run again"
    )


def uncreated(store: str, why: str) -> str:
    """The warning about a store that can't refuse to replace an object; `why` tells how that was found."""
    return (
        f"{store} {why}: what may be created only once is read again some seconds after it was written, "
        "and only the last writer goes on; start one run at a time there"
    )


def unversioned(store: str, modified: object) -> str:
    """The warning about a store without versions, whose objects have a time of change or not even that."""
    known = "size and time of change" if modified else "size"
    return (
        f"{store}: versions are told apart by {known} alone, so an object that is replaced under a run may "
        "show as damaged pairs (by the CRCs of the index) instead of as replaced"
    )


def taken(where: str) -> UserError:
    """The error for creating an object that exists with other content."""
    return UserError(f"{where} exists already with other content; choose another name or remove it")


@contextmanager
def reading(where: object) -> Iterator[None]:
    """Turns the OSErrors of reading into UserErrors."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"{where} not found; check the path or URL") from error
    except PermissionError as error:
        raise UserError(f"no permission to read {where}") from error
    except IsADirectoryError as error:
        raise UserError(f"{where} is a directory, expected a file") from error
    except OSError as error:
        raise UserError(f"can't read {where}: {error.strerror or error}; check the disk or mount") from error


@contextmanager
def writing(where: Path | str) -> Iterator[None]:
    """Turns the OSErrors of writing into UserErrors."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"disk full while writing {where}{_cure(where)} and run again") from error
        raise UserError(f"can't write {where}: {error.strerror or error}") from error


def _cure(where: Path | str) -> str:
    """What is used up, and what to do."""
    if not isinstance(where, Path) or not os.path.isdir(where.parent):
        return "; free some space"
    disk = os.statvfs(where.parent)
    if disk.f_files and not disk.f_favail:
        return " (no inodes are left: it holds too many files); remove some files"
    return f" ({disk.f_bavail * disk.f_frsize >> 20} MiB free); free some space"


def unopened(error: Exception, url: str) -> Exception:
    """Translates what fsspec raises when it opens a URL; a TransientError if another attempt makes sense."""
    package = _PACKAGES.get(url.partition("://")[0])
    if isinstance(error, ImportError) and package:
        return UserError(f"{url} needs a package that is not installed: pip install {package}")
    if isinstance(error, _FINAL):
        return UserError(f"can't open {url}: {without_secrets(error)}")
    return TransientError(f"{type(error).__name__}: {without_secrets(error)}")


def explained(error: Exception, where: str, verb: str) -> Exception:
    """Translates what an fsspec filesystem raises; a TransientError if another attempt makes sense."""
    if isinstance(error, FileNotFoundError):
        return MissingError(f"{where} not found; check the path or URL")
    if isinstance(error, PermissionError):
        return UserError(f"no permission to {verb} {where}")
    if isinstance(error, IsADirectoryError):
        return UserError(f"{where} is a directory, expected a file")
    if isinstance(error, OSError) and error.errno in _FULL:
        return UserError(f"can't {verb} {where}: {error.strerror}; make room and run again")
    if isinstance(error, _FINAL):
        return UserError(f"can't {verb} {where}: {type(error).__name__}: {without_secrets(error)}")
    return TransientError(f"{type(error).__name__}: {without_secrets(error)}")
