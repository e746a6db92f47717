"""Stages on a Ray cluster: each is a Prefect task on whichever machine has room for it.

All machines see the workspace and have the same environment installed. Stages whose own work is
spread ask the same cluster for room (`components.cluster`).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from components.cluster import connection
from components.compute import Compute
from flows import settings
from flows.stages import STAGES

SPREAD = ("tokens", "base")  # they wait while processes on the cluster work for them
INSTALL = "pip install -c constraints.txt -e '.[ray]'"
Submit = Callable[[Any, dict[str, Any]], "Begun"]


@dataclass(frozen=True)
class Begun:
    """A stage at work: Prefect's future, and one that `concurrent.futures` can wait for."""

    future: Any
    wrapped_future: Future

    def result(self) -> Any:
        return self.future.result()


def require(compute: Compute) -> None:
    """Refuse what cannot work, before any work.

    Raises:
        ValueError: `compute` asks for Ray, and it is not installed; or for several nodes, and
            there is no cluster.
    """
    if compute.engine != "ray":
        return
    if missing := [name for name in ("ray", "prefect_ray") if find_spec(name) is None]:
        raise ValueError(
            f"compute.engine is 'ray', and {' and '.join(missing)} is not installed here: "
            f"{INSTALL}, or set 'engine: local'"
        )
    if compute.nodes > 1 and settings.ray_address() is None:
        raise ValueError(
            f"compute.nodes is {compute.nodes}, and RAY_ADDRESS names no cluster: on one machine "
            "'ray start --head', on the others 'ray start --address=HOST:6379', then "
            "'export RAY_ADDRESS=HOST:6379' here"
        )


@contextmanager
def running(compute: Compute) -> Iterator[tuple[Submit, str]]:
    """What submits a task with a parameter `stage` to the cluster, and the cluster's address.

    The cluster is the one that RAY_ADDRESS names; without it, one of this machine, which ends with
    the context. So do the stages that are still at work then.
    """
    import ray
    from prefect.client.orchestration import get_client
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options

    server = str(get_client(sync_client=True).api_url)
    environment = {**settings.carried(), "PREFECT_API_URL": server}
    arguments = connection(settings.ray_address(), compute.threads, environment)
    with RayTaskRunner(arguments.pop("address"), arguments) as runner:
        accelerators = ray.cluster_resources().get("GPU", 0)

        def submit(task: Any, parameters: dict[str, Any]) -> Begun:
            with remote_options(**_needs(compute, parameters["stage"], accelerators > 0)):
                future = runner.submit(task, parameters)
            return Begun(future, future.wrapped_future.future())

        yield submit, ray.get_runtime_context().gcs_address


def _needs(compute: Compute, stage: str, accelerators: bool) -> dict[str, int]:
    """What `stage` takes of a machine, in Ray's words."""
    kind = stage.split("@")[0]
    if kind in SPREAD:
        return {"num_cpus": 0}
    uses = accelerators and "torch" in STAGES[kind].libraries
    return {"num_cpus": compute.threads_of(stage), "num_gpus": int(uses)}
