"""What a stage leaves for people: its bar while it works, its figures and pictures in MLflow."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components import lineage
from components.ladder.block import GROUPS, settings
from flows import graph, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from components.catalogue import Catalogue

PLAIN = re.compile(r"[A-Za-z0-9_-]+")  # keys that may be part of a parameter's name
LINE_SECONDS = 5.0  # between two lines of progress where there is no terminal
KEPT_FILES = (
    "lineage.json",
    "report.json",
    "statistics.json",
    "metrics.json",
    "worst.json",
    "sensitivity.json",
    "samples.json",
    "adapter.json",
    "search.json",
    "final.json",
    "comparison.json",
    "expectations.json",
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
    names = ["--always", "--abbrev=40", "--exclude=*"]  # the hash, whatever tags there are
    command = ["git", "-C", str(workspace), "describe", *names, "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "none"


def _flat(values: Mapping, prefix: str = "") -> dict[str, object]:
    """`values` by dotted names. A mapping that a user named the keys of may stay one value: MLflow
    refuses a parameter called `labels.+`.
    """
    flat = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        deeper = isinstance(value, Mapping) and all(map(PLAIN.fullmatch, value))
        flat.update(_flat(value, f"{name}.") if deeper else {name: value})
    return flat


def _dvc_tags(hashes: Mapping[str, str]) -> dict[str, str]:
    """A run's tags for DVC's hashes of paths: each path as a name that MLflow takes."""
    named = {
        "/".join("__" if p == ".." else tracking.accepted(p) for p in Path(path).parts): digest
        for path, digest in hashes.items()
    }
    return {f"dvc.{name}": digest for name, digest in named.items() if digest}


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
    hashes = graph.locked_hashes(workspace)
    inputs = {path: hashes.get(f"artifacts/{path}", "") for path in origin["inputs"]}
    data = data_behind(workspace / "artifacts", origin, hashes)
    tags = {
        "kindling.content": content,
        "kindling.commit": commit(workspace),
        **_dvc_tags({**inputs, **data}),
    }
    params = _params(mlflow, run_id, origin["block"])
    tracking.log(mlflow, run_id, {"seconds": seconds}, params, tags)
    tracking.log_datasets(mlflow, run_id, data)
    for name in KEPT_FILES:
        if (folder / name).is_file():
            mlflow.log_artifact(run_id, str(folder / name))
    if (folder / "index.html").is_file():
        mlflow.log_artifact(run_id, str(folder / "index.html"), "report")
    if (folder / "pictures").is_dir():
        mlflow.log_artifacts(run_id, str(folder / "pictures"), "plots")
    _log_plots(mlflow, run_id, stage, folder)


def _params(mlflow: "MlflowClient", run_id: str, block: Mapping) -> dict[str, object]:
    """A block's values as the parameters that the run does not have yet."""
    known = mlflow.get_run(run_id).data.params
    return {k: v for k, v in _flat(block).items() if k not in known and v not in ("", None)}


def data_behind(artifacts: Path, origin: Mapping, hashes: Mapping[str, str]) -> dict[str, str]:
    """The data that a stage was made from, directly or through others, with DVC's hashes.

    Both the `datasets/` folders and the files or folders that they were read from.
    """
    found = dict(origin.get("data", {}))
    waiting, seen = list(origin["inputs"]), set()
    while waiting:
        path = waiting.pop()
        if path in seen or not (artifacts / path / lineage.LINEAGE).is_file():
            continue
        seen.add(path)
        made = lineage.read_json(artifacts / path / lineage.LINEAGE)
        waiting += made["inputs"]
        found |= made.get("data", {})
        if path.startswith("datasets/") and f"artifacts/{path}" in hashes:
            found[path] = hashes[f"artifacts/{path}"]
    return dict(sorted(found.items()))


def _log_plots(mlflow: "MlflowClient", run_id: str, stage: str, folder: Path) -> None:
    from components.report import plots

    for name, figure in plots.of_stage(stage.split("@")[0], folder).items():
        mlflow.log_figure(run_id, figure, f"plots/{name}.png")


def keep_result(workspace: Path, stage: str, result: Mapping) -> None:
    """Remember a run of `stage` for summaries.

    result: its `figures`, `seconds`, `run_id`, the `output` folder and the `content` it had.
    """
    folder = workspace / ".kindling" / "results"
    (folder / "by_content").mkdir(parents=True, exist_ok=True)
    lineage.write_json(folder / f"{stage}.json", result)
    lineage.write_json(folder / "by_content" / f"{stage}-{result['content']}.json", result)


def last_run(workspace: Path, stage: str) -> dict:
    """What the latest run of `stage` left; empty before the first."""
    path = workspace / ".kindling" / "results" / f"{stage}.json"
    return lineage.read_json(path) if path.is_file() else {}


def content(workspace: Path, output: str) -> str | None:
    """The content hash of an artifact; None where there is none. output: as `places` gives it."""
    place = workspace / "artifacts" / output / lineage.LINEAGE
    return lineage.read_json(place)["content"] if place.is_file() else None


def result_of(workspace: Path, stage: str) -> dict:
    """What the run left that made the present artifact of `stage`; empty where it is not known.

    DVC may have restored the artifact of an earlier run, so the latest run's figures may be
    another's.
    """
    latest = last_run(workspace, stage)
    made = content(workspace, latest["output"]) if latest else None
    if made is None:
        return {}
    path = workspace / ".kindling" / "results" / "by_content" / f"{stage}-{made}.json"
    return lineage.read_json(path) if path.is_file() else {}


def told_to_parent(stage: str, figures: Mapping[str, float]) -> dict[str, float]:
    """The figures of a stage that a pipeline's own run shows, by the names they have there."""
    kind, name = stage.split("@")
    prefix = {
        "evaluation": f"{name}.",
        "base": "",
        "language_model": "base.",
        "comparison": f"{name}.",
        "ladder": "",
        **{f"measure_{group}": f"{name}." for group in GROUPS},
    }.get(kind)
    return {} if prefix is None else {f"{prefix}{k}": float(v) for k, v in figures.items()}


def tell_parent(mlflow: "MlflowClient", run_id: str, stage: str, figures: Mapping) -> None:
    """Add a stage's figures to the run above its own: a bare `dvc repro` has nobody else to."""
    parent = mlflow.get_run(run_id).data.tags.get(tracking.PARENT)
    told = told_to_parent(stage, figures)
    if parent and told:
        tracking.log(mlflow, parent, told)


def log_parent(
    mlflow: "MlflowClient", run_id: str, workspace: Path, catalogue: "Catalogue", pipeline: str
) -> None:
    """Give a pipeline's own run what people compare pipelines by: settings, figures, data."""
    told: dict[str, float] = {}
    data: dict[str, str] = {}
    hashes = graph.locked_hashes(workspace)
    for stage in catalogue.stages_of(pipeline):
        told |= told_to_parent(stage, result_of(workspace, stage).get("figures", {}))
        if stage.startswith("dataset@"):
            path = f"datasets/{stage.split('@')[1]}"
            data |= data_behind(workspace / "artifacts", {"inputs": [path]}, hashes)
    params = _params(mlflow, run_id, settings_of(catalogue, pipeline))
    tracking.log(mlflow, run_id, told, params, _dvc_tags(data))
    tracking.log_datasets(mlflow, run_id, data)
    report = workspace / "artifacts" / pipeline / "report" / "index.html"
    if report.is_file():
        mlflow.log_artifact(run_id, str(report), "report")
    _log_plots(mlflow, run_id, "report", workspace / "artifacts" / pipeline)


def settings_of(catalogue: "Catalogue", pipeline: str) -> dict[str, object]:
    """A pipeline's own settings, and those of each of its adapters under the adapter's name; of a
    ladder those of its rungs.
    """
    if pipeline in catalogue.ladders:
        rungs = catalogue.ladders[pipeline].rungs
        return {name: settings(catalogue.rungs[name]) for name in rungs}
    adapters = catalogue.adapters_of(pipeline)
    own = catalogue.pipelines[pipeline].model_dump(mode="json")
    return own | {name: catalogue.adapters[name].model_dump(mode="json") for name in adapters}
