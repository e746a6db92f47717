"""Several processes that train one model together: who has which rows, and how they agree.

Started by `torchrun` or Ray Train, each process has a share of every step's sequences, and the
whole model (`ddp`: Li et al. 2020) or a share of it too (`fsdp`: Zhao et al. 2023). On its own a
process is all of them, and all this costs nothing.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    import torch

Strategy = Literal["ddp", "fsdp"]
T = TypeVar("T")


def count() -> int:
    """How many processes train together."""
    import torch.distributed as group

    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def number() -> int:
    """Which of them this one is, from 0."""
    import torch.distributed as group

    return group.get_rank() if count() > 1 else 0


def beside() -> int:
    """How many of them share this process's memory, itself included; each accelerator has its own.

    Asked of all at once.
    """
    import socket

    import torch
    import torch.distributed as group

    if count() == 1 or torch.cuda.is_available():
        return 1
    machines: list[str] = [""] * count()
    group.all_gather_object(machines, socket.gethostname())
    return machines.count(socket.gethostname())


def first() -> bool:
    """Whether this process speaks and writes for all."""
    return number() == 0


def share(rows: int) -> range:
    """Which of a step's `rows` sequences are this process's.

    Raises:
        ValueError: they cannot be shared out evenly.
    """
    if rows % count():
        raise ValueError(
            f"a step's {rows} sequences cannot be shared evenly by {count()} processes; change "
            "'batch_tokens' or 'compute.processes'"
        )
    size = rows // count()
    return range(size * number(), size * (number() + 1))


def spread(module: "torch.nn.Module", strategy: Strategy) -> "torch.nn.Module":
    """`module`, its gradients averaged over all processes as they are made."""
    if count() == 1:
        return module
    if strategy == "fsdp":
        return _sharded(module)
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(module)


def _sharded(module: "torch.nn.Module") -> "torch.nn.Module":
    """`module`, each process keeping a part of every parameter; layers are gathered one by one."""
    import torch
    from torch.distributed.fsdp import fully_shard

    for part in module.modules():
        if isinstance(part, torch.nn.ModuleList):
            for layer in part:
                fully_shard(layer)
    return fully_shard(module)


def last_of(module: Any, last: bool) -> AbstractContextManager:
    """A context for one micro-batch's pass: only the step's last one need agree on gradients."""
    if count() == 1:
        return nullcontext()
    if hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(last)
        return nullcontext()
    return nullcontext() if last else module.no_sync()


def whole(value: Any) -> Any:
    """`value`, all tensors in its dicts and lists that are spread over processes made whole."""
    if isinstance(value, dict):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def like(value: "torch.Tensor", pattern: "torch.Tensor") -> "torch.Tensor":
    """A whole tensor spread over the processes as `pattern` is."""
    if not hasattr(pattern, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, pattern.device_mesh, pattern.placements)


def spread_state(state: dict[str, Any], parameters: "list[torch.Tensor]") -> dict[str, Any]:
    """An optimiser's whole state, spread as its parameters are. `parameters`: in its order."""
    made = {}
    for place, entry in state["state"].items():
        pattern = parameters[place]
        made[place] = {
            key: like(value, pattern) if getattr(value, "shape", ()) == pattern.shape else value
            for key, value in entry.items()
        }
    return {**state, "state": made}


def total(value: float) -> float:
    """The sum of `value` over all processes."""
    import torch
    import torch.distributed as group

    if count() == 1:
        return value
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    group.all_reduce(tensor)
    return float(tensor)


def highest(value: int) -> int:
    """The highest of what the processes say; asked of all at once."""
    import torch
    import torch.distributed as group

    if count() == 1:
        return value
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensor = torch.tensor(value, device=device)
    group.all_reduce(tensor, group.ReduceOp.MAX)
    return int(tensor)


def wait_for_all() -> None:
    """Go on when all processes are here."""
    import torch.distributed as group

    if count() > 1:
        group.barrier()


def agreed(value: T) -> T:
    """What the first process says, for all."""
    import torch.distributed as group

    if count() == 1:
        return value
    said = [value]
    group.broadcast_object_list(said, src=0)
    return said[0]


@contextmanager
def together() -> Iterator[None]:
    """Join the processes that `torchrun` started beside this one, for the time of the context."""
    import torch
    import torch.distributed as group

    group.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(group.get_node_local_rank())
    try:
        yield
    finally:
        group.destroy_process_group()
