"""Kernels on the threads that torch's own products run on.

Numba could start threads itself. But torch's threads wait for the next product by spinning, and on
two cores a second crew would fight them for every microsecond: so both use one crew, that of the
OpenMP library which torch has loaded. Its entry `GOMP_parallel` is what a C compiler makes of
`#pragma omp parallel`. Where it is missing (macOS) kernels run on the calling thread.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

MOST_WORDS = 24
MANY = 1 << 30  # rows of an array whose length a kernel need not know
PART, PARTS, WAIT = "kindling_part", "kindling_parts", "kindling_wait"  # as kernels call them


def _openmp() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libgomp.so.1")  # torch is imported: this is the one that it uses
    except OSError:
        return None


_Told = ctypes.c_int64 * MOST_WORDS


@cfunc(types.int32())
def _nought() -> int:
    return 0


@cfunc(types.int32())
def _one() -> int:
    return 1


@cfunc(types.void())
def _nothing() -> None:
    pass


_library = _openmp()
if _library is None:
    llvm.add_symbol(PART, _nought.address)
    llvm.add_symbol(PARTS, _one.address)
    llvm.add_symbol(WAIT, _nothing.address)
else:
    functions = {PART: "omp_get_thread_num", PARTS: "omp_get_num_threads", WAIT: "GOMP_barrier"}
    for name, function in functions.items():
        address = ctypes.cast(getattr(_library, function), ctypes.c_void_p).value
        llvm.add_symbol(name, address)

part = types.ExternalFunction(PART, types.int32())  # which thread of the crew this is
parts = types.ExternalFunction(PARTS, types.int32())  # how many there are
wait = types.ExternalFunction(WAIT, types.void())  # until all of the crew have come here


@intrinsic
def _pointer(_context: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@njit(inline="always")
def floats(address, shape):
    """The float32 array of `shape` that begins at `address`."""
    return carray(_pointer(address), shape, np.float32)


@njit(inline="always")
def halves(address, shape):
    """As `floats`, of uint16: the upper halves of floats, which are numbers of bfloat16."""
    return carray(_pointer(address), shape, np.uint16)


@njit(inline="always")
def ints(address, shape):
    """As `floats`, of int32."""
    return carray(_pointer(address), shape, np.int32)


@njit(inline="always")
def longs(address, shape):
    """As `floats`, of int64."""
    return carray(_pointer(address), shape, np.int64)


@njit(inline="always")
def flags(address, shape):
    """As `floats`, of uint8."""
    return carray(_pointer(address), shape, np.uint8)


def set_crew(threads: int) -> None:
    """How many threads work for the calling thread from now on, on kernels and torch's products."""
    torch.get_num_threads()  # or its first product here would set the process's own number again
    if _library is not None:
        _library.omp_set_num_threads(threads)


def dismiss_crew() -> None:
    """End the threads that work for the calling thread; more work gets new ones.

    The OpenMP library counts the crews of all threads. While these are more than the cores, each
    of them sleeps as soon as it waits, and a step wakes it anew for every kernel and product. So
    whoever computes now and then sends its crew home. The thread of steps, which has more work
    soon, does not: the next step would wait for new threads.
    """
    if _library is not None:
        _library.omp_pause_resource_all(1)  # softly: what `set_crew` said stays


@contextmanager
def passing_crew() -> Iterator[None]:
    """The crew of what is computed here is dismissed at its end."""
    try:
        yield
    finally:
        dismiss_crew()


def run(compiled: Any, *words: int, threads: int = 0) -> None:
    """Run a kernel with words of this call alone. threads: as of `Bound.__call__`."""
    told = _Told(*words)
    if _library is None:
        compiled.ctypes(ctypes.cast(told, ctypes.c_void_p))
    else:
        code = ctypes.c_void_p(compiled.address)
        _library.GOMP_parallel(code, told, threads or torch.get_num_threads(), 0)


class Bound:
    """A kernel with its arguments: arrays that stay where they are, and whole numbers.

    A kernel reads them as words, after word 0, the count that it is called with.
    """

    def __init__(self, compiled: Any, *arguments: np.ndarray | int) -> None:
        self._kept = (compiled, arguments)  # what the words point to
        told = [a.ctypes.data if isinstance(a, np.ndarray) else int(a) for a in arguments]
        self.words = np.array([0, *told], dtype=np.int64)
        assert len(self.words) <= MOST_WORDS, len(self.words)
        self._code = ctypes.c_void_p(compiled.address)
        self._data = ctypes.c_void_p(self.words.ctypes.data)
        self._alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(compiled.address)

    def __call__(self, count: int, threads: int = 0) -> None:
        """Run it for `count` items. threads: of the crew; 0: as many as torch uses."""
        if not count:
            return
        self.words[0] = count
        if _library is None:
            self._alone(self._data)
        else:
            _library.GOMP_parallel(self._code, self._data, threads or torch.get_num_threads(), 0)
