"""Several processes that train one model together: who has which rows, and how they agree.

Started by `torchrun`, each process has a copy of the model and a share of every step's sequences
(data parallel: Li et al. 2020). On its own a process is all of them, and all this costs nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def count() -> int:
    """How many processes train together."""
    import torch.distributed as group

    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def number() -> int:
    """Which of them this one is, from 0."""
    import torch.distributed as group

    return group.get_rank() if count() > 1 else 0


def first() -> bool:
    """Whether this process speaks and writes for all."""
    return number() == 0


def share(rows: int) -> range:
    """Which of a step's `rows` sequences are this process's.

    Raises:
        ValueError: there are fewer of them than processes.
    """
    if rows < count():
        raise ValueError(f"a step has {rows} sequences, fewer than {count()} processes")
    return range(rows * number() // count(), rows * (number() + 1) // count())


def spread(module: "torch.nn.Module") -> "torch.nn.Module":
    """`module`, its gradients averaged over all processes as they are made."""
    if count() == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(module)


def last_of(module: Any, last: bool) -> Any:
    """A context for one micro-batch's pass: only the step's last one need agree on gradients."""
    return nullcontext() if last or count() == 1 else module.no_sync()


def total(value: float) -> float:
    """The sum of `value` over all processes."""
    import torch
    import torch.distributed as group

    if count() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64)
    group.all_reduce(tensor)
    return float(tensor)


def any_of(value: bool) -> bool:
    """Whether `value` is true in any process; asked of all at once."""
    return total(float(value)) > 0


@contextmanager
def together() -> Iterator[None]:
    """Join the processes that `torchrun` started beside this one, for the time of the context."""
    import torch
    import torch.distributed as group

    group.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        group.destroy_process_group()
