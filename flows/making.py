"""How a stage is made: whole or not at all, told to MLflow, and taken up where it was killed.

The only place where a component meets MLflow, the progress bar, locks and the file system's
atomicity. A stage writes to a folder of its own and renames it at the end; its checkpoints stand
outside of DVC's outputs, which DVC deletes before it runs a stage.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components import lineage, locks
from components.catalogue import Catalogue, load
from components.training.checkpoint import WORKED
from flows import cluster, data, expansion, finished, settings
from flows.places import pipeline_of, places
from flows.stages import STAGES, Work
from flows.versions import installed

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from flows.tracker import Tracker

LOCK_WAIT_SECONDS = 20  # an orphan on its leash is gone long before


@dataclass(frozen=True)
class State:
    """What a stage is made from and by. origin: for its lineage. threads: where they shape its last
    bits. code: the hash of each file that DVC knows it by.
    """

    origin: dict
    threads: int | None
    code: dict[str, str]


def _data(workspace: Path, catalogue: Catalogue, stage: str) -> dict[str, dict[str, str]]:
    """What a data set was read from, as DVC versions it, for its lineage."""
    kind, name = stage.split("@")
    if kind != "dataset":
        return {}
    return {"data": data.version_of(workspace, catalogue.datasets[name])}


def run(workspace: Path, stage: str) -> None:
    """Run `stage` of `workspace` and put its result in place, whole or not at all.

    Raises:
        ValueError: wrong catalogue, stage, input or library version, or they changed meanwhile.
        Held: the stage is at work in another process.
    """
    catalogue = load(workspace, check_files=False)
    expansion.require_current(workspace, catalogue)
    cluster.require(catalogue.compute)
    output, _ = places(catalogue, stage)
    _settle(stage)
    finished.drop_noted(workspace)
    with locks.hold(finished.lock_of(workspace, stage), wait=LOCK_WAIT_SECONDS):
        begun = _state(workspace, catalogue, stage)
        _run_tracked(workspace, catalogue, stage, begun, output)


def _state(workspace: Path, catalogue: Catalogue, stage: str) -> State:
    entry = STAGES[stage.split("@")[0]]
    _, inputs = places(catalogue, stage)
    origin = {
        "stage": stage,
        "inputs": {p: lineage.content_of(workspace / "artifacts" / p) for p in inputs},
        "block": catalogue.block(stage),
        "versions": installed(entry.libraries),
        **_data(workspace, catalogue, stage),
    }
    threads = catalogue.compute.threads_of(stage) if entry.trains else None
    root = workspace / catalogue.root
    code = {file: lineage.file_hash(root / file) for file in expansion.code_of(catalogue, stage)}
    return State(origin, threads, code)


def _require_unchanged(workspace: Path, begun: State) -> None:
    """Refuse a result of what is no longer so: DVC looks at what a stage reads when that has ended,
    and would note the new state as the one that the result was made from.
    """
    stage = begun.origin["stage"]
    if _state(workspace, load(workspace, check_files=False), stage) != begun:
        raise ValueError(
            f"pipelines.yaml, the code or the inputs changed while {stage} was made, so its result "
            "is that of another state; run it again, or set them back first: it then goes on from "
            "its checkpoints"
        )


def _marks(begun: State) -> tuple[str, str]:
    """Whose a checkpoint, and whose a trial of a stage is: the latter's of all that it is made from
    and by, whatever it is called and asked to do.
    """
    origin = begun.origin
    made_from = [origin["inputs"], origin["versions"], begun.code, begun.threads]
    trial = lineage.value_hash(made_from)
    return lineage.value_hash([origin["stage"], origin["block"], trial]), trial


def _settle(stage: str) -> None:
    if "torch" in STAGES[stage.split("@")[0]].libraries:
        from components.training import machine

        machine.settle_products()


def _run_tracked(
    workspace: Path,
    catalogue: Catalogue,
    stage: str,
    begun: State,
    output: str,
) -> None:
    """Do the work under an MLflow run, which ends as FINISHED or FAILED."""
    from flows import evidence, tracking
    from flows.tracker import Tracker

    started = time.monotonic()
    mlflow = tracking.client(workspace)
    pipeline = pipeline_of(catalogue, stage)
    origin, marks = begun.origin, _marks(begun)
    run_id, told = tracking.open_stage_run(workspace, mlflow, stage, pipeline, marks[0])
    tracker = Tracker(mlflow, run_id, evidence.bar(stage), told)
    checkpoints = finished.checkpoints_of(workspace, stage)
    finished.forget(workspace, stage)
    with _ended(mlflow, tracker):
        out = _empty(workspace / ".kindling" / "work" / stage)
        name = stage.split("@")[1]
        work = Work(catalogue, name, workspace, out, checkpoints, *marks, tracker)
        figures = STAGES[stage.split("@")[0]].run(work)
        target = workspace / "artifacts" / output
        content = _put_in_place(out, target, origin)
        new = {key: value for key, value in figures.items() if key not in tracker.last}
        tracker.metrics(new)
        seconds = round(time.monotonic() - started, 2)
        evidence.log(mlflow, run_id, workspace, stage, target, origin, content, seconds)
        _require_unchanged(workspace, begun)
    if settings.parent_run() is None:
        evidence.tell_parent(mlflow, run_id, stage, figures)
    about = {"run_id": run_id, "seconds": seconds, "content": content, "output": output}
    about[WORKED] = tracker.last.get(WORKED)  # unlike the stage's, of all tries and of no trials
    evidence.keep_result(workspace, stage, {**about, "figures": figures})
    finished.keep(workspace, stage, output)


@contextmanager
def _ended(mlflow: "MlflowClient", tracker: "Tracker") -> Iterator[None]:
    """Write what `tracker` holds and end its run, FINISHED or FAILED.

    What goes wrong in the stage is raised, not what MLflow may say besides.
    """
    try:
        yield
        tracker.close()
    except BaseException:
        with suppress(Exception):
            tracker.close()
        with suppress(Exception):
            mlflow.set_terminated(tracker.run_id, "FAILED")
        raise
    mlflow.set_terminated(tracker.run_id, "FINISHED")


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _put_in_place(out: Path, target: Path, origin: dict) -> str:
    """Complete `out` with its lineage and rename it to `target`; return its content hash."""
    content = lineage.folder_hash(out)
    lineage.write_json(out / lineage.LINEAGE, {"content": content, **origin})
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(out, target)
    return content
