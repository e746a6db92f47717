"""`kindling clean`: what a workspace no longer needs, on disk and in MLflow."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from components import locks
from components.catalogue import load
from flows import finished, graph, settings, tracking
from flows.registry import registry_lock
from flows.tracking import PARENT, UNOWNED
from flows.workspace import workspaces

if TYPE_CHECKING:
    from mlflow.entities import Run

LOST = ("FAILED", "KILLED")
LIVING = ("FINISHED", "RUNNING")
AT_ONCE = 1000  # runs in one argument, of which Linux takes 128 KiB; an id has 32 characters
TRIAL_LOCK = "lock"  # within each trial's folder
POINTED = re.compile(r"\bmd5: ([0-9a-f]{32}(?:\.dir)?)$", re.MULTILINE)  # in a pointer of DVC


def leftovers(workspace: Path) -> dict[str, list[Path]]:
    """What `clean` may delete: folders and files by what they are."""
    state, going_on = workspace / ".kindling", interrupted(workspace)
    return {
        "half-written folders and checkpoints that no stage goes on from": [
            path
            for kind in ("checkpoints", "work")
            for path in _idle(state / kind)
            if path not in going_on
        ],
        "evaluations made for the gate": _idle(state / "rejudged"),
        "trials of comparisons and ladders, which would be made anew": _idle(state / "trials"),
    }


def interrupted(workspace: Path) -> list[Path]:
    """The checkpoints from which stages go on that were killed or failed, or whose result DVC has
    not noted.
    """
    noted = finished.noted(workspace)
    return [
        path
        for path in _idle(workspace / ".kindling" / "checkpoints")
        if tracking.run_note(workspace, path.name).is_file() and path.name not in noted
    ]


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
    return finished.lock_of(workspace, stage)


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
    """Delete `paths`, MLflow's `runs`, and what is unused in DVC's cache, see `collect`.

    A stage or trial that began since they were listed keeps its own: a bare `dvc repro` takes no
    lock of a run.

    Raises:
        Held: a run is at work, here or in another workspace with the same cache.
    """
    with ExitStack() as held:
        for place in sorted({workspace.resolve(), *map(Path.resolve, workspaces(workspace))}):
            held.enter_context(locks.hold(place / ".kindling" / "run.lock"))
        tracking.end_all_lost(workspace)  # of a run whose note goes nobody would know
        for path in paths:
            _remove(path)
        forget(workspace, runs)
        collect(workspace)


def _remove(path: Path) -> None:
    """Delete `path`, unless somebody works in it."""
    lock = _lock_of(path)
    with suppress(locks.Held), locks.hold(lock):
        if path.parent.name == "checkpoints":
            finished.drop(path.parents[2], path.name)
            return
        if path.parent.name != "trials":
            shutil.rmtree(path, ignore_errors=True)
            return
        for part in _parts(path):
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def collect(workspace: Path, dry: bool = False) -> str:
    """Delete what is unused in DVC's cache; return what DVC says. dry: only say it.

    Used is what a workspace of the repository names now, and each version of data that a commit of
    git or a run in MLflow names: DVC could make results again, and nobody the data.
    """
    others = [path for path in workspaces(workspace) if path.resolve() != workspace.resolve()]
    options = ["--dry"] if dry else []
    with _project(workspace) as data:
        projects = ["--projects", *map(str, others), str(data)]
        return graph.call(workspace, "gc", "--workspace", "--force", *options, *projects).strip()


@contextmanager
def _project(workspace: Path) -> Iterator[Path]:
    """A project of DVC with the same cache, whose only pointer names the data to be kept."""
    cache = Path(graph.call(workspace, "cache", "dir").strip())
    digests = sorted(_from_commits(workspace) | _from_runs(workspace))
    kept = [d for d in digests if (cache / "files" / "md5" / d[:2] / d[2:]).is_file()]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / ".dvc").mkdir()
        settled = f"[core]\n    no_scm = true\n[cache]\n    dir = {cache}\n"
        (folder / ".dvc" / "config").write_text(settled, encoding="utf-8")
        outs = [{"md5": digest, "hash": "md5", "path": digest} for digest in kept]
        if outs:  # JSON is YAML
            (folder / "data.dvc").write_text(json.dumps({"outs": outs}), encoding="utf-8")
        yield folder


def _from_commits(workspace: Path) -> set[str]:
    """DVC's hashes of data, as the pointers in any commit have them."""
    command = ["git", "-C", str(settings.home(workspace)), "log", "--all", "-p", "-U0", "--format="]
    done = subprocess.run([*command, "--", "*.dvc"], capture_output=True, text=True, check=False)
    return set(POINTED.findall(done.stdout))  # nothing outside of git


def _from_runs(workspace: Path) -> set[str]:
    """DVC's hashes of the data that MLflow's runs were made from."""
    mlflow = tracking.client(workspace)
    experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    found, token = set(), None
    while token != "":
        runs = mlflow.search_runs(experiments, max_results=AT_ONCE, page_token=token)
        used = [entry.dataset for run in runs for entry in run.inputs.dataset_inputs]
        found |= {dataset.digest for dataset in used if dataset.source_type == "dvc"}
        token = runs.token or ""
    return found
