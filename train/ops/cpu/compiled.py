"""How the kernels are compiled.

Numba keeps the code in `__pycache__` beside the source, or where that is read-only, in the user's cache.
It compiles anew when the file of a kernel changes, not when a file does that this imports from: so a
kernel's parts lie in its own file, and tables come as arguments or are constants for good.

Arithmetic is as written: no fused multiply-add, no reordering, without which nothing would be exact.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}  # checking each division takes long


def kernel(signature: str) -> Callable[[Function], Function]:
    """Compiles a function for arguments of one type, and keeps the code for the next process.

    Args:
        signature: in numba's terms: ``u1[:,::1]`` is a contiguous uint8 array of two axes.
    """

    def compiled(function: Function) -> Function:
        try:
            made: Any = numba.njit(signature, cache=True, **_OPTIONS)(function)
        except RuntimeError:  # there is no place for the cache, neither beside the source nor in a home
            made = numba.njit(signature, **_OPTIONS)(function)
        return cast(Function, made)

    return compiled


def part(function: Function) -> Function:
    """Makes a function that kernels of the same file call; it is compiled into them."""
    made: Any = numba.njit(**_OPTIONS)(function)
    return cast(Function, made)
