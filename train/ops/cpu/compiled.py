"""Compiles the kernels with numba.

Numba stores compiled code in `__pycache__` next to the source or, if that is read-only, in the user's cache.
It compiles a kernel again when the kernel's own file changes, but not when a file changes from which that
file imports. So all parts of a kernel are in its own file, and tables are arguments or never change.

Floating-point code runs as it is written, without fused multiply-adds or reordering (numba's fastmath is
off); otherwise the results would not be exact.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

# nogil: threads run kernels in parallel. error_model: Python's would check each division for zero, slowly.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def kernel(signature: str) -> Callable[[Function], Function]:
    """A decorator that compiles a function for one signature and stores the code for the next process.

    Args:
        signature: in numba's notation: ``u1[:,::1]`` is a contiguous uint8 array with two axes.
    """

    def compiled(function: Function) -> Function:
        try:
            made: Any = numba.njit(signature, cache=True, **_OPTIONS)(function)
        except RuntimeError:  # numba can write a cache neither next to the source nor in the user's home
            made = numba.njit(signature, **_OPTIONS)(function)
        return cast(Function, made)

    return compiled


def part(function: Function) -> Function:
    """A decorator for a function that kernels of the same file call; it is compiled as a part of them."""
    made: Any = numba.njit(**_OPTIONS)(function)
    return cast(Function, made)
