"""What the Prefect server is told: the work pool, the deployments, the end of lost runs."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from components.catalogue import FILE
from infra.config import Prefect
from infra.processes import StackError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

AUTOMATION = "kindling: end lost runs"
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDINGS = ("Completed", "Failed", "Crashed", "Cancelled")


def client(api_url: str) -> "SyncPrefectClient":
    """A client of the stack's own server, whatever profile the user has."""
    from prefect.client.orchestration import SyncPrefectClient

    return SyncPrefectClient(api_url)


def ensure_pool(api: "SyncPrefectClient", pool: str) -> None:
    """Make the process work pool `pool` if there is none."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    try:
        api.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    except ObjectAlreadyExists:
        return


def online(api: "SyncPrefectClient", pool: str, worker: str, since: float) -> bool:
    """Whether `worker` has reported to `pool` after `since` (seconds since the epoch).

    Prefect itself calls a killed worker online for another minute and a half.
    """
    found = [w for w in api.read_workers_for_work_pool(pool) if w.name == worker]
    return any(w.last_heartbeat_time.timestamp() > since for w in found)


def deploy(workspace: Path, environment: Mapping[str, str]) -> str:
    """Create or update every deployment of the workspace's catalogue; return Prefect's words.

    Raises:
        StackError: Prefect refused one; with the end of what it said.
    """
    command = ["--no-prompt", "deploy", "--prefect-file", FILE, "--all"]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *command],
        cwd=workspace,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode != 0 or "Failed to create" in said:
        raise StackError(f"'prefect {' '.join(command)}' failed in {workspace}:\n{said[-3000:]}")
    return said


def lost_runs(settings: Prefect) -> "AutomationCore":
    """The automation that ends a deployment's run whose heartbeat stopped.

    Without it a run whose engine and worker were both killed stays `Running` for ever. Runs
    outside of deployments are left alone: their heartbeats come at Prefect's own slower pace.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    seconds = settings.lost_after_seconds
    return AutomationCore(
        name=AUTOMATION,
        description=f"A run that was silent for {seconds} s has lost its process.",
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *(f"prefect.flow-run.{ending}" for ending in ENDINGS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "deployment"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message=f"No heartbeat for {seconds} s: its process is gone.",
            )
        ],
    )


def ensure_automation(api: "SyncPrefectClient", settings: Prefect) -> None:
    """Create the automation, or bring the one of its name up to date.

    One that is right is left alone: an update would forget whose heartbeats are awaited.
    """
    from prefect.events.schemas.automations import AutomationCore

    wanted = lost_runs(settings)
    found = api.read_automations_by_name(AUTOMATION)
    for extra in found[1:]:
        api.delete_automation(extra.id)
    if not found:
        api.create_automation(wanted)
    elif AutomationCore.model_validate(found[0].model_dump(exclude={"id"})) != wanted:
        api.update_automation(found[0].id, wanted)


def end_runs(api: "SyncPrefectClient", pool: str) -> int:
    """End the runs of `pool` whose processes the caller has ended; return how many there were."""
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    alive = filters.FlowRunFilterStateType(
        any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    )
    runs = api.read_flow_runs(
        flow_run_filter=filters.FlowRunFilter(state=filters.FlowRunFilterState(type=alive)),
        work_pool_filter=filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[pool])),
    )
    for run in runs:
        api.set_flow_run_state(run.id, Crashed(message="The stack was stopped."), force=True)
    return len(runs)
