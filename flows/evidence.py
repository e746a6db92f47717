"""What a stage leaves for people: its bar while it works, its figures and pictures in MLflow."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components import lineage
from flows import graph, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

LINE_SECONDS = 5.0  # between two lines of progress where there is no terminal
KEPT_FILES = (
    "lineage.json",
    "report.json",
    "statistics.json",
    "metrics.json",
    "samples.json",
    "adapter.json",
)


def bar(stage: str) -> Callable[[float, float, str], None]:
    """A progress display: a bar on a terminal, a line every few seconds elsewhere."""
    if sys.stderr.isatty():
        return _terminal_bar(stage)
    last = 0.0

    def line(done: float, total: float, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS or done >= total:
            last = now
            print(f"{stage}: {done / max(total, 1):4.0%} {note}", flush=True)

    return line


def _terminal_bar(stage: str) -> Callable[[float, float, str], None]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
    progress = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
    task = progress.add_task(stage, total=None, note="")

    def draw(done: float, total: float, note: str) -> None:
        progress.start()
        progress.update(task, completed=done, total=total, note=note)
        if done >= total:
            progress.stop()

    return draw


def commit(workspace: Path) -> str:
    """The commit of the code and catalogue, `-dirty` where files differ from it; else `none`."""
    command = ["git", "-C", str(workspace), "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "none"


def _flat(values: Mapping, prefix: str = "") -> dict[str, object]:
    flat = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat


def log(
    mlflow: "MlflowClient",
    run_id: str,
    workspace: Path,
    stage: str,
    folder: Path,
    origin: dict,
    content: str,
    seconds: float,
) -> None:
    """Write a finished stage's parameters, tags, inputs, small files and plots to its run."""
    from mlflow.entities import Metric, Param, RunTag

    hashes = graph.locked_hashes(workspace)
    inputs = {path: hashes.get(f"artifacts/{path}", "") for path in origin["inputs"]}
    tags = {
        "kindling.content": content,
        "kindling.commit": commit(workspace),
        **{f"dvc.{path}": digest for path, digest in inputs.items() if digest},
    }
    known = mlflow.get_run(run_id).data.params
    params = {k: str(v)[:500] for k, v in _flat(origin["block"]).items() if k not in known}
    now = int(time.time() * 1000)
    mlflow.log_batch(
        run_id,
        metrics=[Metric("seconds", seconds, now, 0)],
        params=[Param(key, value) for key, value in params.items() if value != ""],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    data = data_behind(workspace / "artifacts", origin["inputs"])
    used = {path: hashes[f"artifacts/{path}"] for path in data if f"artifacts/{path}" in hashes}
    tracking.log_datasets(mlflow, run_id, used)
    for name in KEPT_FILES:
        if (folder / name).is_file():
            mlflow.log_artifact(run_id, str(folder / name))
    if (folder / "index.html").is_file():
        mlflow.log_artifact(run_id, str(folder / "index.html"), "report")
    _log_plots(mlflow, run_id, stage, folder)


def data_behind(artifacts: Path, inputs: Mapping[str, str]) -> list[str]:
    """The `datasets/` folders that `inputs` were made from, directly or through others."""
    found: dict[str, None] = {}
    waiting = list(inputs)
    while waiting:
        path = waiting.pop()
        if path.startswith("datasets/"):
            found[path] = None
        elif (artifacts / path / lineage.LINEAGE).is_file():
            waiting += lineage.read_json(artifacts / path / lineage.LINEAGE)["inputs"]
    return sorted(found)


def _log_plots(mlflow: "MlflowClient", run_id: str, stage: str, folder: Path) -> None:
    from components.report import plots

    for name, figure in plots.of_stage(stage.split("@")[0], folder).items():
        mlflow.log_figure(run_id, figure, f"plots/{name}.png")


def keep_result(workspace: Path, stage: str, result: Mapping) -> None:
    """Remember the last run of `stage` for summaries: its figures, seconds and MLflow run."""
    path = workspace / ".kindling" / "results" / f"{stage}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lineage.write_json(path, result)


def result_of(workspace: Path, stage: str) -> dict:
    """What `keep_result` kept; empty where the stage was restored from DVC's cache."""
    path = workspace / ".kindling" / "results" / f"{stage}.json"
    return lineage.read_json(path) if path.is_file() else {}


def log_parent(
    mlflow: "MlflowClient", run_id: str, workspace: Path, pipeline: str, stages: list[str]
) -> None:
    """Give a pipeline's own run the figures that people compare pipelines by, and its data."""
    from mlflow.entities import Metric, RunTag

    now = int(time.time() * 1000)
    metrics, data = [], {}
    hashes = graph.locked_hashes(workspace)
    for stage in stages:
        kind, name = stage.split("@")
        if kind == "dataset" and f"artifacts/datasets/{name}" in hashes:
            data[f"datasets/{name}"] = hashes[f"artifacts/datasets/{name}"]
        prefix = {"evaluation": f"{name}.", "base": "", "language_model": "base."}.get(kind)
        if prefix is None:
            continue
        for key, value in result_of(workspace, stage).get("figures", {}).items():
            metrics.append(Metric(f"{prefix}{key}", float(value), now, 0))
    tags = [RunTag(f"dvc.{path}", digest) for path, digest in data.items()]
    mlflow.log_batch(run_id, metrics=metrics, tags=tags)
    tracking.log_datasets(mlflow, run_id, data)
    report = workspace / "artifacts" / pipeline / "report" / "index.html"
    if report.is_file():
        mlflow.log_artifact(run_id, str(report), "report")
    _log_plots(mlflow, run_id, "report", workspace / "artifacts" / pipeline)
