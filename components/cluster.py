"""A Ray cluster: how it is joined or started, and work spread over it.

Ray is optional, and only imported where it is used.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
# of a cluster of our own, for objects: nothing large passes through. Ray wants 75 MiB at least
STORE_BYTES = 100 << 20
# what processes on the cluster take over of this one's environment
HANDED_ON = (
    "PYTHONPATH",
    "PYTHONWARNINGS",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRANSFORMERS_VERBOSITY",
    "HF_HUB_DISABLE_TELEMETRY",
)


def connection(
    address: str | None, threads: int, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Arguments of `ray.init` that join the cluster at `address`; None: start one here.

    threads: that a cluster of our own may use. environment: more of it, for the cluster's
    processes.
    """
    handed = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    shared = {"runtime_env": {"env_vars": {**handed, **(environment or {})}}}
    if address:
        return {"address": address, **shared}
    own = {"num_cpus": threads, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    return {"address": "local", **own, **shared}  # without it Ray may join one that it remembers


def spread(
    address: str, threads: int, work: Callable[..., T], first: Any, many: Sequence[Any]
) -> Iterator[T]:
    """`work(first, one)` for each of `many`, in order, on machines of the cluster at `address`.

    threads: that one call uses. A call whose machine is lost is made again on another one.
    """
    import ray

    with ray.init(**connection(address, threads)):
        call = ray.remote(num_cpus=threads)(work)
        for reference in [call.remote(first, one) for one in many]:
            yield ray.get(reference)
