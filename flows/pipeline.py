"""The flow: data checked, stages brought up to date, what came out registered and judged.

A task is one `dvc repro --single-item`, so a flow and a bare `dvc repro` do the same work and skip
the same work. What is no pure function of files (registering, promoting) follows as tasks.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from components import locks
from components.catalogue import Catalogue, CatalogueError, load, suggestion
from components.compute import Compute
from components.registry import RegistryError
from flows import (
    cluster,
    data,
    disk,
    evidence,
    expansion,
    expectations,
    finished,
    forkserver,
    graph,
    leash,
    settings,
    side_by_side,
    summary,
    tracking,
)
from flows.places import places

RETRIES = 3
RETRY_SECONDS = 5
LAST_SECONDS = 2.0  # for the stages of an interrupted run to be gone
# whose words say it all
TOLD = (
    *(CatalogueError, RegistryError, data.DataError),
    *(locks.Held, graph.StageFailed, expectations.NotHeld),
)


def without_traceback(record: logging.LogRecord) -> bool:
    """A filter of Prefect's log: what a user can mend needs no lines of Prefect's own code."""
    if record.exc_info and isinstance(record.exc_info[1], TOLD):
        record.exc_info = None
    return True


for _logger in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_logger).addFilter(without_traceback)


def _passing(_task: Any, _run: Any, state: Any) -> bool:
    """Only a busy DVC is worth another try: a stage's own error would come again."""
    return isinstance(state.result(raise_on_failure=False), graph.Busy)


@task(name="data", cache_policy=NO_CACHE)
def check_data(
    workspace: Path, catalogue: Catalogue, pipeline: str, stale: dict[str, list]
) -> dict[str, str]:
    datasets, files = catalogue.datasets_of(pipeline), catalogue.files_of(pipeline)
    return data.check(workspace, catalogue, datasets, stale, get_run_logger().info, files)


@task(
    task_run_name="{stage}",
    retries=RETRIES,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=_passing,
    cache_policy=NO_CACHE,
)
def run_stage(
    workspace: Path, stage: str, output: str, above: dict[str, str], force: bool
) -> side_by_side.Outcome:
    """Bring a stage up to date. output: its folder. above: see `settings.told`."""
    settings.apply(workspace)  # this may be another process than the flow's, on another machine
    before = evidence.last_run(workspace, stage), evidence.content(workspace, output)
    environment = settings.child_environment(above)
    graph.reproduce(workspace, stage, environment, get_run_logger().info, force)
    finished.drop_noted(workspace, [stage])
    after = evidence.last_run(workspace, stage), evidence.content(workspace, output)
    return side_by_side.Outcome(*(a != b for a, b in zip(after, before, strict=True)))


@task(name="register", cache_policy=NO_CACHE)
def register(workspace: Path, pipeline: str, parent: str | None) -> dict[str, Any]:
    from flows.release import release

    return release(workspace, pipeline, parent, get_run_logger().info)


def _run_stages(
    workspace: Path, catalogue: Catalogue, pipeline: str, waiting: set[str], force: bool
) -> tuple[str | None, list[str]]:
    """Run what is stale; return the MLflow parent run (None: nothing ran) and what ran.

    DVC is asked for a stage only if the one question at the start, or another output of a stage
    before it, gives it a reason to.
    """
    stages = catalogue.stages_of(pipeline)
    needed = side_by_side.needs(catalogue, stages)
    if not force and not waiting.intersection(stages):
        return None, []
    tags = {
        "kindling.pipeline": pipeline,
        "kindling.started_by": "flow",
        "kindling.commit": evidence.commit(workspace),
    }
    parent = tracking.start_parent(workspace, pipeline, tags)
    ended = "FAILED"
    try:
        with _beginning(workspace, catalogue, parent, force) as begin:
            ran = side_by_side.run(
                needed,
                *_room(catalogue.compute),
                lambda stage, changed: force or stage in waiting or bool(needed[stage] & changed),
                begin,
            )
        ended = "FINISHED"
    finally:
        graph.end_calls()
        _close(workspace, catalogue, pipeline, parent, ended)
    return parent, ran


@contextmanager
def _beginning(
    workspace: Path, catalogue: Catalogue, parent: str, force: bool
) -> Iterator[Callable[[str], side_by_side.Begun]]:
    """What begins a stage: here, in a fork of a server, or on whichever machine of a cluster."""

    def given(stage: str, above: dict[str, str]) -> dict[str, Any]:
        output, _ = places(catalogue, stage)
        return {
            "workspace": workspace,
            "stage": stage,
            "output": output,
            "above": above,
            "force": force,
        }

    if catalogue.compute.engine == "ray":
        with cluster.running(catalogue.compute) as (submit, address):
            above = settings.told(parent, cluster=address)
            yield lambda stage: submit(run_stage, given(stage, above))
        return
    with forkserver.running(workspace) as server:
        above = settings.told(parent, server)
        yield lambda stage: run_stage.submit(**given(stage, above))


def _room(compute: Compute) -> tuple[int, Callable[[str], int]]:
    """Slots for stages, and how many one takes. A cluster knows its room itself."""
    if compute.engine == "ray":
        return sys.maxsize, lambda stage: 1
    return compute.jobs, compute.jobs_of


def _close(workspace: Path, catalogue: Catalogue, pipeline: str, parent: str, ended: str) -> None:
    """End the MLflow runs of a pipeline run, and let its own say what came out."""
    mlflow = tracking.client(workspace)
    try:
        tracking.end_all_lost(workspace, patience=LAST_SECONDS)
        evidence.log_parent(mlflow, parent, workspace, catalogue, pipeline)
    finally:
        tracking.end_parent(workspace, mlflow, parent, ended)


def _require_names(workspace: Path, catalogue: Catalogue, pipeline: str) -> None:
    """See `registry.require_names`; a ladder registers nothing."""
    from flows.registry import require_names

    if pipeline in catalogue.pipelines:
        require_names(workspace, catalogue, pipeline)


def _waiting(workspace: Path, catalogue: Catalogue, pipeline: str) -> set[str]:
    """The stages that DVC calls stale, the data brought to the state of its pointers first."""
    stale = graph.stale(workspace)
    if check_data(workspace, catalogue, pipeline, stale):
        stale = graph.stale(workspace)
    return set(stale)


@flow(name="pipeline", flow_run_name="{pipeline}", persist_result=False, validate_parameters=False)
def pipeline(pipeline: str, workspace: str = ".", force: bool = False) -> dict[str, Any]:
    """Bring `pipeline` of `workspace` up to date, register what is new, and judge it.

    A ladder's name brings that up to date; its models are measured and held against what the
    ladder expects, not registered.

    Raises:
        CatalogueError: the catalogue is wrong, or has no such pipeline.
        ValueError: the cluster that it asks for cannot be had.
        DataError: data is missing or changed.
        Held: another run is at work in this workspace.
        StageFailed: a stage failed.
        RegistryError: a name of it belongs to another workspace.
        NotHeld: a ladder's models are not in an order in which they must be.
    """
    started = time.monotonic()
    where = Path(workspace).resolve()
    settings.apply(where)
    leash.tie_server()
    catalogue = load(where)
    if pipeline not in catalogue.targets:
        known = suggestion(pipeline, catalogue.targets)
        raise ValueError(f"no pipeline or ladder '{pipeline}'{known}")
    cluster.require(catalogue.compute)
    stages = catalogue.stages_of(pipeline)
    with locks.hold(where / ".kindling" / "run.lock"):
        graph.ensure_repository(where)
        expansion.renew(where, catalogue, get_run_logger().info)
        disk.require(where, catalogue.compute.disk_gb)
        if graph.drop_torn_lock(where):
            get_run_logger().warning("dvc.lock was half-written and is made anew from DVC's cache")
        tracking.end_all_lost(where)
        _require_names(where, catalogue, pipeline)
        waiting = _waiting(where, catalogue, pipeline)
        parent, ran = _run_stages(where, catalogue, pipeline, waiting, force)
        released = register(where, pipeline, parent) if pipeline in catalogue.pipelines else {}
    outcome = summary.collect(where, catalogue, pipeline, stages, ran, released)
    outcome["seconds"] = round(time.monotonic() - started, 1)
    create_markdown_artifact(summary.markdown(outcome), key=summary.key(pipeline))
    expectations.require(where, pipeline)
    return outcome
