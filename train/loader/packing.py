"""A loader's plan as bytes for its worker; what can't go there is refused in words."""

import inspect
import os
import pickle
from io import BytesIO
from types import FunctionType
from typing import Any

from recon.base.errors import UserError
from train.loader.child import OURS, ROOT
from train.loader.reader import LoaderPlan


def pickled(plan: LoaderPlan) -> bytes:
    """The plan, pickled.

    Raises:
        UserError: a stage can't be pickled, or its module has the name of a package of ours.
    """
    file = BytesIO()
    try:
        _Pickler(file).dump(plan)
    except UserError:
        raise
    except Exception as error:  # pickle raises nearly anything
        raise UserError(
            f"the stages can't be sent to the loader's worker ({error}); define them in a module of "
            "their own, not inside a function or as a lambda, or use workers=0"
        ) from error
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Refuses functions and classes that the worker would look for in a package of ours, in vain."""

    def reducer_override(self, value: Any) -> Any:
        """Called by pickle for each object; `NotImplemented` leaves the object to pickle's own way."""
        if isinstance(value, FunctionType | type):
            _refuse_namesake(value)
        return NotImplemented


def _refuse_namesake(value: Any) -> None:
    module = value.__module__
    if not isinstance(module, str) or module.partition(".")[0] not in OURS:
        return
    file = _file_of(value)
    if file is None or file.startswith(os.path.join(ROOT, module.partition(".")[0]) + os.sep):
        return
    raise UserError(
        f"stage {value.__qualname__} is in module {module!r} of {file}, and in the loader's worker "
        f"this name is our package's, {ROOT}/{module.partition('.')[0]}; rename that file, or use workers=0"
    )


def _file_of(value: Any) -> str | None:
    """Where a function or class is defined, as far as Python knows."""
    try:
        return os.path.abspath(inspect.getfile(inspect.unwrap(value)))
    except (TypeError, OSError):
        return None
