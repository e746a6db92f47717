"""MLflow: a parent run for a pipeline run, a nested run for each stage that really ran.

A killed stage's run is found by the note beside its checkpoints, and reopened.
"""

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from components.ladder.block import GROUPS, read_key
from components.lineage import read_json, write_json
from components.locks import hold
from flows import settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONGEST_PARAMETER = 500
PARENT = "mlflow.parentRunId"
REFUSED = re.compile(r"[^\w.\- :]")  # by MLflow, in a part of a name
SQLITE = "sqlite:///"
UNOWNED = "data"  # the experiment of stages that no pipeline uses


def accepted(name: str) -> str:
    """`name`, which a user may have chosen, without what MLflow refuses in one."""
    return REFUSED.sub("_", name)


def client(workspace: Path) -> "MlflowClient":
    from mlflow import MlflowClient

    uri = settings.tracking_uri(workspace)
    with hold(settings.home(workspace) / ".kindling" / "mlflow.lock", wait=120):
        _make_store(uri)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _make_store(uri: str) -> None:
    """Make the tables of an SQLite store that is not there yet: all of them, or no file.

    MLflow makes them by dozens of migrations, and could not open a file again in which a kill ended
    one half-way.
    """
    from mlflow import MlflowClient

    file = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    made = file.with_name(f".{file.name}.new")
    made.unlink(missing_ok=True)  # of a process that was killed at this
    MlflowClient(tracking_uri=f"{SQLITE}{made}", registry_uri=f"{SQLITE}{made}")
    made.rename(file)


def is_stores(error: Exception) -> bool:
    """Whether `error` is one of MLflow's store."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException)


def experiment(mlflow: "MlflowClient", workspace: Path, name: str) -> str:
    """The id of experiment `name`, created with its artifacts beside the store."""
    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    with hold(settings.home(workspace) / ".kindling" / "mlflow.lock", wait=60):
        found = mlflow.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        local = settings.tracking_uri(workspace).startswith("sqlite:")
        place = (settings.home(workspace) / "mlruns" / name).as_uri() if local else None
        return mlflow.create_experiment(name, artifact_location=place)


def _tags(command: str, own: Mapping[str, str]) -> dict[str, str]:
    """`own`, and what MLflow's page says of a run: who began it, and by which command it is had."""
    from mlflow.tracking.context.registry import resolve_tags

    return resolve_tags({"mlflow.source.name": command, **own})


def _of_rung(stage: str) -> dict[str, str]:
    """The rung and the seed of a stage of a rung, by which MLflow groups runs."""
    kind, name = stage.split("@")
    if kind.removeprefix("measure_") not in GROUPS:
        return {}
    rung, seed = read_key(name)
    return {"kindling.rung": rung, "kindling.seed": str(seed)}


def start_parent(workspace: Path, pipeline: str, tags: Mapping[str, str]) -> str:
    """Start the run of one pipeline run; return its id. A note finds it if this process is lost."""
    mlflow = client(workspace)
    where = experiment(mlflow, workspace, pipeline)
    name = f"{pipeline} {time.strftime('%Y-%m-%d %H:%M:%S')}"
    said = _tags(f"kindling run {pipeline}", tags)
    run_id = mlflow.create_run(where, run_name=name, tags=said).info.run_id
    note_parent(workspace, run_id)
    return run_id


def note_parent(workspace: Path, run_id: str) -> None:
    """Let a pipeline's own run be ended by others if this process is lost while it is open."""
    _write_note(run_note(workspace, run_id), {"run_id": run_id})


def end_parent(workspace: Path, mlflow: "MlflowClient", run_id: str, status: str) -> None:
    mlflow.set_terminated(run_id, status)
    run_note(workspace, run_id).unlink(missing_ok=True)


def parent_of_dvc(workspace: Path, mlflow: "MlflowClient", pipeline: str) -> str | None:
    """The parent run of the bare `dvc repro` that runs this stage; None outside of one.

    It is created finished, for nobody would end it if DVC were killed; MLflow lets children and
    metrics be added all the same.
    """
    masters = filter(_is_dvc, psutil.Process().parents() if settings.dvc_started_us() else [])
    if (master := next(masters, None)) is None:
        return None
    mark = f"{master.pid}-{master.create_time():.2f}"
    note = workspace / ".kindling" / "parents" / f"{pipeline}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    with hold(note.with_suffix(".lock"), wait=60):
        if note.is_file() and read_json(note)["dvc"] == mark:
            return read_json(note)["run_id"]
        tags = {"kindling.pipeline": pipeline, "kindling.started_by": "dvc repro"}
        run = start_parent(workspace, pipeline, tags)
        end_parent(workspace, mlflow, run, "FINISHED")
        write_json(note, {"dvc": mark, "run_id": run})
        return run


def _is_dvc(process: psutil.Process) -> bool:
    with suppress(psutil.Error):  # such as another user's, which may not be looked at
        return "dvc" in " ".join(process.cmdline()[:3])
    return False


def log(
    mlflow: "MlflowClient",
    run_id: str,
    metrics: Mapping[str, float],
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write to a run; the names of metrics may be a user's."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    mlflow.log_batch(
        run_id,
        metrics=[Metric(accepted(key), value, now, 0) for key, value in metrics.items()],
        params=[Param(key, str(v)[:LONGEST_PARAMETER]) for key, v in (params or {}).items()],
        tags=[RunTag(key, value) for key, value in (tags or {}).items()],
    )


def open_stage_run(
    workspace: Path, mlflow: "MlflowClient", stage: str, pipeline: str, identity: str
) -> tuple[str, dict[str, int]]:
    """The MLflow run of `stage`, new or a killed one reopened, and the last step of each figure
    that it has.

    A run left by another identity (other data, settings or code) is ended as KILLED.
    """
    note = run_note(workspace, stage)
    if left := read_note(note):
        if left["identity"] == identity and _reopen(mlflow, left["run_id"]):
            _write_note(note, {"identity": identity, "run_id": left["run_id"]})
            return left["run_id"], _last_steps(mlflow, left["run_id"])
        _end_running(mlflow, note)
        note.unlink(missing_ok=True)
    parent = settings.parent_run() or parent_of_dvc(workspace, mlflow, pipeline)
    tags = {"kindling.stage": stage, "kindling.pipeline": pipeline}
    if parent is not None:
        tags[PARENT] = parent
    where = experiment(mlflow, workspace, pipeline)
    said = _tags(f"dvc repro {stage}", {**tags, **_of_rung(stage)})
    run_id = mlflow.create_run(where, run_name=stage, tags=said).info.run_id
    _write_note(note, {"identity": identity, "run_id": run_id})
    return run_id, {}


def run_note(workspace: Path, name: str) -> Path:
    """Where an MLflow run at work, or killed at work, is written down.

    name: a stage, or the id of a pipeline's own run.
    """
    return workspace / ".kindling" / "open_runs" / f"{name}.json"


def read_note(note: Path) -> dict | None:
    """What `note` says; None where there is none, for its owner may drop it at any moment."""
    try:
        return read_json(note)
    except FileNotFoundError:
        return None


def _write_note(note: Path, about: Mapping[str, str]) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    process = psutil.Process()
    write_json(note, {**about, "pid": process.pid, "born": process.create_time()})


def _at_work(note: Path) -> bool:
    """Whether the process that wrote `note` lives; one that took over its number does not count."""
    about = read_note(note)
    if about is None:
        return False
    try:
        process = psutil.Process(about["pid"])
        return process.create_time() == about["born"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end_running(mlflow: "MlflowClient", note: Path) -> None:
    """End the run that `note` names as KILLED, if it still runs."""
    from mlflow.exceptions import MlflowException

    about = read_note(note)
    try:
        if about and mlflow.get_run(about["run_id"]).info.status == "RUNNING":
            mlflow.set_terminated(about["run_id"], "KILLED")
    except MlflowException:
        return  # the store was wiped or moved: nothing to end


def _reopen(mlflow: "MlflowClient", run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.update_run(run_id, status="RUNNING")
    except MlflowException:
        return False
    return True


def _last_steps(mlflow: "MlflowClient", run_id: str) -> dict[str, int]:
    """By figure, for a stage may train twice, each time from step 0."""
    names = mlflow.get_run(run_id).data.metrics
    return {
        name: max(metric.step for metric in mlflow.get_metric_history(run_id, name))
        for name in names
    }


def log_datasets(mlflow: "MlflowClient", run_id: str, hashes: Mapping[str, str]) -> None:
    """Make data sets inputs of a run. hashes: the DVC hash of each, by its artifact path."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(name=path, digest=digest, source_type="dvc", source=path),
            [InputTag("mlflow.data.context", "training"), InputTag("dvc.hash", digest)],
        )
        for path, digest in hashes.items()
    ]
    if inputs:
        mlflow.log_inputs(run_id, datasets=inputs)


def end_all_lost(workspace: Path, patience: float = 0.0) -> None:
    """End the MLflow runs of this workspace whose process is gone, as KILLED.

    A stage's keeps its note: the stage reopens it. patience: seconds to wait for processes that
    were told to end.
    """
    deadline = time.monotonic() + patience
    for note in (workspace / ".kindling" / "open_runs").glob("*.json"):
        while _at_work(note) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _at_work(note):
            continue
        _end_running(client(workspace), note)
        if "@" not in note.name:
            note.unlink(missing_ok=True)
