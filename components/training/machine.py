"""What this machine can do: its precision, its compiler, its memory and its speed."""

import ctypes
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]
# glibc's mallopt(3): blocks above a threshold come fresh from the kernel, page fault by page fault,
# and go back to it when freed; smaller ones are kept, in a heap that gets holes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
FAST_BYTES, TIGHT_BYTES = 1 << 30, 1 << 17
PLENTY = 2.0  # times the need: room for the heap's holes
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in which getrusage(2) counts memory
CGROUP = Path("/sys/fs/cgroup")  # as a container sees its own
MATRIX = {"cpu": 2048, "cuda": 8192}  # large enough that products reach their full rate
MATRIX_ROUNDS = 3


def device() -> "torch.device":
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def repeating(wanted: bool) -> Iterator[None]:
    """Within it an accelerator's kernels give the same bits every time; a processor's always do.

    PyTorch raises a RuntimeError at an operation that has no such kernel.
    """
    import torch

    if not wanted or device().type == "cpu":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # see NVIDIA's cuBLAS, 2.1.4
    before = torch.are_deterministic_algorithms_enabled()
    torch.utils.deterministic.fill_uninitialized_memory = False  # a check that takes time
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:  # what is done with the model later, such as sampling, has no such kernels
        torch.use_deterministic_algorithms(before)


def accelerators() -> list[int]:
    """The accelerators that this process works on: one, or none."""
    import torch

    return [] if device().type == "cpu" else [torch.cuda.current_device()]


def resolved(precision: Precision) -> Precision:
    """`auto` as this machine's faster precision; told by its kind, for noise must not decide it.

    bfloat16 runs at 7 times float32's rate on Intel's matrix units, at 2 times on AMD's vectors,
    and at 0.6 times on Intel's vectors (`python bench/precision.py`).
    """
    import torch

    if precision != "auto":
        return precision
    if device().type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    able = torch.cpu.get_capabilities()
    fast = able.get("amx_bf16") or (_is_amd(able) and able.get("avx512_bf16"))
    return "bfloat16" if fast else "float32"


def _is_amd(able: Mapping[str, object]) -> bool:
    return "AMD" in str(able.get("cpu_name"))


def settle_products() -> None:
    """Let this process multiply in float32 with the library that is fast on its processor.

    PyTorch takes MKL, whose widest vectors are for Intel's processors alone: on an AMD EPYC with
    AVX-512 oneDNN's products take half the time (`python bench/precision.py`). PyTorch hands it
    products of float32 only with the leave to round to bfloat16. Without matrix units oneDNN makes
    no use of that leave, and whether it does is tried.
    """
    import torch

    able = torch.cpu.get_capabilities()
    if not _is_amd(able) or not able.get("avx512_f") or able.get("amx_bf16"):
        return
    usual = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    if not _keeps_float32():
        torch.backends.mkldnn.matmul.fp32_precision = usual


def _keeps_float32() -> bool:
    """Whether products keep a bit of float32 that bfloat16 and TF32 have no place for."""
    import torch

    size, fine = 64, 1 + 2.0**-12
    made = torch.full((size, size), fine) @ torch.ones(size, size)
    return bool((made == size * fine).all())


def settle_memory(need: float) -> None:
    """Tell the C library how to hold memory; does nothing where it is not glibc.

    need: bytes, of all processes that train here. Where twice as much is free, what a step frees is
    kept for the next one, which asks for the same big blocks: faster, with holes in the heap. Else
    every big block goes back when it is freed: slower, and no holes.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    threshold = FAST_BYTES if free_memory() > PLENTY * need else TIGHT_BYTES
    mallopt(M_MMAP_THRESHOLD, threshold)
    mallopt(M_TRIM_THRESHOLD, threshold)


def can_compile() -> bool:
    """Whether `torch.compile` finds the C++ compiler that it needs on a processor."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def matrix_rate(precision: Precision) -> float:
    """FLOP/s of square matrix products in `precision`: the limit that training is held against."""
    import torch

    size = MATRIX[device().type]
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(size, size, device=device()).to(kind) for _ in range(2))
    taken = []
    for _ in range(MATRIX_ROUNDS + 1):  # the first warms up
        started = time.perf_counter()
        left @ right
        if left.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(taken[1:])


def peak_memory() -> int:
    """Bytes that this process held at most: of the device, or resident in memory."""
    import torch

    if device().type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    # not ru_maxrss: on Linux it begins with the peak of the process that started this one
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def free_memory() -> float:
    """Bytes that are free for training: of the device, or in memory."""
    import psutil
    import torch

    if device().type == "cuda":
        return torch.cuda.mem_get_info()[0]
    return min(psutil.virtual_memory().available, _left_in(CGROUP))


def _left_in(group: Path) -> float:
    """Bytes that a container's limit (cgroup v2) leaves; infinite where there is none.

    Files that it read and does not use count as free, for they go when memory is asked for.
    """
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        held = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return math.inf
    return math.inf if limit == "max" else int(limit) - used + int(held["inactive_file"])


def threads() -> int:
    import torch

    return torch.get_num_threads()
