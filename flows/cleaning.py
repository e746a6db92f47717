"""`kindling clean`: what a workspace no longer needs, on disk and in MLflow."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from components import locks
from components.catalogue import load
from components.lineage import read_json
from flows import graph, settings, tracking
from flows.care import running
from flows.tracking import PARENT, UNOWNED
from flows.workspace import workspaces

if TYPE_CHECKING:
    from mlflow.entities import Run

LOST = ("FAILED", "KILLED")
LIVING = ("FINISHED", "RUNNING")


def leftovers(workspace: Path) -> dict[str, list[Path]]:
    """What `clean` may delete: folders and files by what they are."""
    state = workspace / ".kindling"
    busy = {name for name, _ in running(workspace)}
    idle = [
        path
        for kind in ("checkpoints", "work")
        for path in sorted((state / kind).glob("*@*"))
        if path.name not in busy
    ]
    return {
        "checkpoints and half-written folders of stages that do not run": idle,
        "evaluations made for the gate": sorted((state / "rejudged").glob("*")),
        "trials of comparisons and ladders, which would be made anew": sorted(
            (state / "trials").glob("*")
        ),
    }


def lost_runs(workspace: Path) -> list["Run"]:
    """MLflow runs of this workspace that failed or were killed and lead nowhere.

    Kept are those that a stage could still resume, that lineage or a registered version refers to,
    and parents of a run that finished.
    """
    from mlflow.entities import ViewType

    from components.registry import CONTENT

    mlflow = tracking.client(workspace)
    names = [*load(workspace).targets, UNOWNED]
    found = [mlflow.get_experiment_by_name(name) for name in names]
    experiments = [experiment.experiment_id for experiment in found if experiment]
    runs = list(mlflow.search_runs(experiments, run_view_type=ViewType.ALL, max_results=50_000))
    kept = {version.run_id for version in mlflow.search_model_versions()}
    notes = (workspace / ".kindling" / "open_runs").glob("*.json")
    kept |= {read_json(note)["run_id"] for note in notes}
    kept |= {run.data.tags.get(PARENT, "") for run in runs if run.info.status in LIVING}
    return [
        run
        for run in runs
        if (run.info.status in LOST or run.info.lifecycle_stage == "deleted")
        and run.info.run_id not in kept
        and CONTENT not in run.data.tags
    ]


def forget(workspace: Path, runs: list["Run"]) -> None:
    """Delete MLflow runs with their artifacts. A server's are only marked, for its own `mlflow gc`.

    Raises:
        OSError: MLflow refused.
    """
    mlflow = tracking.client(workspace)
    for run in runs:
        if run.info.lifecycle_stage == "active":
            mlflow.delete_run(run.info.run_id)
    uri = settings.tracking_uri(workspace)
    if not runs or uri.startswith("http"):
        return
    ids = ",".join(run.info.run_id for run in runs)
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--run-ids", ids]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"'mlflow gc' failed:\n{done.stderr[-1000:]}")


def size(path: Path) -> int:
    """Bytes below `path`."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file())


def clean(workspace: Path, paths: list[Path], runs: list["Run"]) -> None:
    """Delete `paths`, MLflow's `runs`, and what no workspace of the repository uses in DVC's cache.

    Raises:
        Held: a run is at work.
    """
    with locks.hold(workspace / ".kindling" / "run.lock"):
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)
        forget(workspace, runs)
        graph.call(workspace, "gc", "--workspace", "--force", *_mates(workspace))


def unused_cache(workspace: Path) -> str:
    """What DVC says it would delete from its cache."""
    return graph.call(
        workspace, "gc", "--workspace", "--force", "--dry", *_mates(workspace)
    ).strip()


def _mates(workspace: Path) -> list[str]:
    """DVC's options that keep what the other workspaces of the repository use."""
    others = [path for path in workspaces(workspace) if path.resolve() != workspace.resolve()]
    return ["--projects", *map(str, others)] if others else []
