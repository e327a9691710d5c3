"""Errors that the user can correct: a command prints them as one line, without a traceback."""

import os


class UserError(ValueError):
    """A mistake in input or options.

    Its text says what was expected, what was found, where, and what to do. Every
    command prints it as ``error: ...`` and exits with its status (`recon.base.cli.run`).
    """

    status = 2
    """Exit status of the command."""


def message_of(error: Exception) -> str:
    """The text of an error without line breaks, or the name of its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


class MissingError(UserError):
    """The storage answers, and says that there is no such file or object."""


class UnreachableError(UserError):
    """The storage did not answer in time: perhaps no mistake, so a later start may go better.

    After its status a command may well be started again.
    """

    status = os.EX_IOERR  # 74


class PeerError(Exception):
    """Another process of the run has ended, or does not answer: no mistake of this one, nor of its options.

    A command prints it as one line and exits with status 69 (EX_UNAVAILABLE), after which a restart helps.
    """


class RejectedImageError(ValueError):
    """One image that can't become a pair; its text is the cause.

    Packing lists it in ``rejected.jsonl`` and continues with the other images.
    """
