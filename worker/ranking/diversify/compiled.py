"""Python that is compiled (Numba): what runs once for each candidate and each place.

A method is a named tuple of arrays with a few small functions; `compiled_class` lets compiled code
call them. Machine code is kept in a folder named by the digest of these sources, for Numba itself
does not see that a function which another file calls has changed. Where nothing can be kept, each
process compiles anew. With NUMBA_DISABLE_JIT=1 all of it runs as it stands.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
from numba import types
from numba.extending import overload_method

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)


def _kept_in() -> Path | None:
    """The user's own folder: machine code is trusted, so it lies where nobody else writes."""
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    root = numba.config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(root).expanduser() / "prismrank" / hashlib.sha256(sources).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, or a user without a home
        return None
    return folder if os.access(folder, os.W_OK) else None


KEPT_IN: Final = _kept_in()
OPTIONS: Final = {"error_model": "numpy", "_nrt": False, "forceinline": True}
"""What is compiled makes no arrays, so that nothing needs to count who holds one: half the time."""
if KEPT_IN is not None:
    numba.config.CACHE_DIR = str(KEPT_IN)


def compiled(function: Function) -> Function:
    """`function`, compiled for the types that it is called with."""
    found: Function = numba.njit(cache=KEPT_IN is not None, **OPTIONS)(function)
    return found


def compiled_sum(function: Function) -> Function:
    """The same, free to add in another order: the same one at every call."""
    found: Function = numba.njit(fastmath={"reassoc", "contract"}, **OPTIONS)(function)
    return found


_callable: Final[set[str]] = set()


def compiled_class(cls: Class) -> Class:
    """A named tuple whose functions compiled code may call as `one.function(…)`."""
    for name, value in vars(cls).items():
        if callable(value) and not name.startswith("_") and name not in _callable:
            _callable.add(name)
            _let_call(name, inspect.signature(value))
    return cls


def _let_call(name: str, signature: inspect.Signature) -> None:
    def function_of(self: Any, *_arguments: Any) -> Any:
        return getattr(self.instance_class, name, None)

    function_of.__signature__ = signature  # type: ignore[attr-defined]
    overload_method(types.BaseNamedTuple, name, strict=False, jit_options=OPTIONS)(function_of)
