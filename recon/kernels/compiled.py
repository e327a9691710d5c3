"""Compiles the kernels with numba.

Numba stores compiled code in `__pycache__` next to the source or, if that is read-only, in the user's cache.
A kernel is compiled again when its own file or a file of this folder changes, but not when another file
changes from which it imports. So all parts of a kernel are in its own file or here, and tables are arguments
or never change.

Floating-point code runs as it is written, without fused multiply-adds or reordering (numba's fastmath is
off); otherwise the results would not be exact.
"""

import logging
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

Function = TypeVar("Function", bound=Callable[..., Any])

int64: Any = np.int64
"""In a kernel: makes an int of a number of another kind; mypy does not know that numba's int is this."""

_LOG = logging.getLogger(__name__)
_TOLD: set[str] = set()
"""What was told to be compiled."""

_WHAT = {
    "recon.kernels.resample": "resizing",
    "recon.kernels": "the JPEG decoder",
    "train.ops": "the augmentations",
}
"""What the kernels of a module or package are for, as `_tell` says it; packing needs the decoder alone."""

# error_model: Python's would check each division for zero, slowly.
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}


def kernel(signature: str, *, nogil: bool = True) -> Callable[[Function], Function]:
    """A decorator that compiles a function for one signature and stores the code for the next process.

    Args:
        signature: in numba's notation: ``u1[:,::1]`` is a contiguous uint8 array with two axes, and
            ``Array(u1, 1, 'C', True)`` one with one axis that may be read-only.
        nogil: threads run it in parallel. False for what takes microseconds: where threads wait for the
            interpreter's lock, to get it back would take a hundred times as long.
    """

    def compiled(function: Function) -> Function:
        try:
            made = _cached(signature, function, nogil)
        except Exception:  # a damaged file (unpickling raises nearly anything), or no place for a cache
            made = _anew(signature, function, nogil)
        return cast(Function, made)

    return compiled


_FunctionCache: Any = FunctionCache
_IndexDataCacheFile: Any = IndexDataCacheFile


@lru_cache(maxsize=1)
def _folder_stamp() -> str:
    """Changes when a file of this folder does."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(sha256(file.read_bytes()).digest() for file in files)).hexdigest()


class _Cache(_FunctionCache):  # type: ignore[misc]
    """Numba's, whose code is out of date too when a file of this folder has changed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=(self._impl.locator.get_source_stamp(), _folder_stamp()),
        )


def _cached(signature: str, function: Function, nogil: bool) -> Any:
    made: Any = numba.njit(nogil=nogil, **_OPTIONS)(function)
    made._cache = _Cache(function)  # where numba's own `enable_caching` puts it
    made.compile(signature)
    made.disable_compile()
    if made.stats.cache_misses:
        _tell(function.__module__)
    return made


def _tell(module: str) -> None:
    """Says once of each thing that it is compiled, when its first kernel has been."""
    what = next((what for name, what in _WHAT.items() if f"{module}.".startswith(f"{name}.")), module)
    if what not in _TOLD:
        _TOLD.add(what)
        _LOG.info("compiling %s for this CPU: some seconds, once on this machine", what)


def _anew(signature: str, function: Function, nogil: bool) -> Any:
    """Compiles in place of what the cache holds, or without a cache."""
    try:
        _Cache(function).flush()
        return _cached(signature, function, nogil)
    except (RuntimeError, OSError):  # it can be written neither next to the source nor in the user's home
        return numba.njit(signature, nogil=nogil, **_OPTIONS)(function)


def part(function: Function) -> Function:
    """A decorator for a function that kernels of the same file call; it is compiled as a part of them."""
    made: Any = numba.njit(**_OPTIONS)(function)
    return cast(Function, made)


def inlined(function: Function) -> Function:
    """The same for a part that runs once for each symbol or pixel: it is copied to where it is called.

    LLVM calls what it finds large; then all that the part is given and returns goes through memory, and
    that took a third of the time of entropy decoding.
    """
    made: Any = numba.njit(forceinline=True, **_OPTIONS)(function)
    return cast(Function, made)


def _pointer(_: Any, array: Any) -> Any:
    def address(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return struct(array)(context, builder, arguments[0]).data

    struct: Any = make_array
    kind: Any = types.CPointer
    return kind(array.dtype)(array), address


pointer: Any = intrinsic(_pointer)
"""In a kernel: the address of an array's first item, to be indexed like a flat array.

For parts that run once for each symbol: counting references to arrays would take most of their time.
"""


def _kept(_: Any, arrays: Any) -> Any:
    def nothing(context: Any, _builder: Any, _: Any, _arguments: Any) -> Any:
        return context.get_dummy_value()

    return types.void(arrays), nothing


kept: Any = intrinsic(_kept)
"""In a kernel: up to here these arrays, a tuple, are not freed.

A `pointer` does not hold its array: numba frees an array that the kernel made after the last line that names
it, which may come before the last one that uses the pointer.
"""
