"""How kernels are compiled, and when code that was compiled before may be used.

numba keeps machine code beside its source, and takes it for current while that one file is as it
was. But a kernel is made of functions and constants of other files too (numba's issue 1833): after
an upgrade in place it would go on with the old ones, and say nothing. So all code here is as old as
all sources of kernels together.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba import cfunc, config, njit, types
from numba.core import caching

WORDS = types.CPointer(types.int64)


def sources() -> list[Path]:
    """The files whose functions and constants kernels are made of."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [file for file in files if b"numba" in file.read_bytes()]


STAMP = hashlib.sha256(b"\0".join(file.read_bytes() for file in sources())).hexdigest()


class _Stamped:
    def get_source_stamp(self) -> str:
        return STAMP


class _Asked(_Stamped, caching.UserProvidedCacheLocator):
    """Where NUMBA_CACHE_DIR says."""


class _Beside(_Stamped, caching.InTreeCacheLocator):
    """Beside the sources, if they may be written to."""


class _OfUser(_Stamped, caching.UserWideCacheLocator):
    """In the user's own cache."""


@contextmanager
def _kept() -> Iterator[None]:
    """What is declared here is kept with `STAMP`; what others compile, as numba does."""
    usual = config.CACHE_LOCATOR_CLASSES
    ours = (f"{__name__}.{kind.__name__}" for kind in (_Asked, _Beside, _OfUser))
    config.CACHE_LOCATOR_CLASSES = ",".join(ours)
    try:
        yield
    finally:
        config.CACHE_LOCATOR_CLASSES = usual


def kernel(body: Callable[[Any], None]) -> Any:
    """Compile `body`, which is called with its words (int64) by every thread of the crew."""
    with _kept():
        return cfunc(types.void(WORDS), cache=True, error_model="numpy", fastmath=True)(body)


def routine(body: Callable[..., Any]) -> Any:
    """Compile a function that kernels call."""
    with _kept():
        return njit(fastmath=True, error_model="numpy", cache=True)(body)
