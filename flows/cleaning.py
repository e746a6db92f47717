"""`kindling clean`: what a workspace no longer needs, on disk and in MLflow."""

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from components import locks
from components.catalogue import load
from flows import graph, settings, tracking
from flows.registry import registry_lock
from flows.tracking import PARENT, UNOWNED
from flows.workspace import workspaces

if TYPE_CHECKING:
    from mlflow.entities import Run

LOST = ("FAILED", "KILLED")
LIVING = ("FINISHED", "RUNNING")
AT_ONCE = 1000  # runs in one argument, of which Linux takes 128 KiB; an id has 32 characters
TRIAL_LOCK = "lock"  # within each trial's folder


def leftovers(workspace: Path) -> dict[str, list[Path]]:
    """What `clean` may delete: folders and files by what they are."""
    state = workspace / ".kindling"
    return {
        "checkpoints and half-written folders of stages that do not run": [
            path for kind in ("checkpoints", "work") for path in _idle(state / kind)
        ],
        "evaluations made for the gate": _idle(state / "rejudged"),
        "trials of comparisons and ladders, which would be made anew": _idle(state / "trials"),
    }


def _idle(folder: Path) -> list[Path]:
    """The folders in `folder` that hold something and in which nobody works."""
    found = sorted(folder.glob("*"))
    return [path for path in found if _parts(path) and locks.holder(_lock_of(path)) is None]


def _lock_of(path: Path) -> Path:
    """What whoever works in `path` holds."""
    if path.parent.name == "trials":
        return path / TRIAL_LOCK
    workspace = path.parents[2]
    if path.parent.name == "rejudged":
        return registry_lock(workspace)
    stage = path.name.partition(".")[0]  # a stage may have a second folder: random@lora.adapter
    return workspace / ".kindling" / "locks" / stage


def _parts(path: Path) -> list[Path]:
    """What is in `path`, but for a trial's lock: that stays, for somebody may wait for it."""
    return [part for part in path.glob("*") if part != path / TRIAL_LOCK]


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
    notes = map(tracking.read_note, (workspace / ".kindling" / "open_runs").glob("*.json"))
    kept |= {about["run_id"] for about in notes if about}
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
    ids = [run.info.run_id for run in runs]
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--run-ids"]
    for start in range(0, len(ids), AT_ONCE):
        part = ",".join(ids[start : start + AT_ONCE])
        done = subprocess.run([*command, part], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OSError(f"'mlflow gc' failed:\n{done.stderr[-1000:]}")


def size(path: Path) -> int:
    """Bytes below `path`."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file())


def clean(workspace: Path, paths: list[Path], runs: list["Run"]) -> None:
    """Delete `paths`, MLflow's `runs`, and what no workspace of the repository uses in DVC's cache.

    A stage or trial that began since they were listed keeps its own: a bare `dvc repro` takes no
    lock of a run.

    Raises:
        Held: a run is at work.
    """
    with locks.hold(workspace / ".kindling" / "run.lock"):
        for path in paths:
            _remove(path)
        forget(workspace, runs)
        graph.call(workspace, "gc", "--workspace", "--force", *_mates(workspace))


def _remove(path: Path) -> None:
    """Delete `path`, unless somebody works in it."""
    lock = _lock_of(path)
    with suppress(locks.Held), locks.hold(lock):
        if path.parent.name != "trials":
            shutil.rmtree(path, ignore_errors=True)
            return
        for part in _parts(path):
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def unused_cache(workspace: Path) -> str:
    """What DVC says it would delete from its cache."""
    return graph.call(
        workspace, "gc", "--workspace", "--force", "--dry", *_mates(workspace)
    ).strip()


def _mates(workspace: Path) -> list[str]:
    """DVC's options that keep what the other workspaces of the repository use."""
    others = [path for path in workspaces(workspace) if path.resolve() != workspace.resolve()]
    return ["--projects", *map(str, others)] if others else []
