"""`kindling evaluate --harness TASK.yaml`: a task of lm-evaluation-harness on base and adapters."""

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from components import locks
from components.catalogue import Catalogue
from components.lineage import content_of
from flows import data, evidence, expansion, forkserver, graph, settings, tracking

BASE = "base"
Figures = dict[str, dict[str, float]]  # by task of the harness, then by metric


def evaluate(
    workspace: Path, catalogue: Catalogue, pipeline: str, file: Path, say: Callable[[str], None]
) -> Iterator[tuple[str, Figures]]:
    """Bring base and adapters up to date and judge them by `file`; give names and figures.

    A prompt design is the base here, for a task of the harness has its own prompt, and an adapter
    that answers with a class instead of words cannot be asked; both are left out.

    Raises:
        ValueError: lm_eval is not installed, or `file` describes no task whose data is there.
        Held: a run is at work in this workspace.
        DataError: data is missing or changed.
        StageFailed: a stage failed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise ValueError(
            "lm-evaluation-harness is not installed; run "
            "pip install -c constraints.txt -e '.[harness]'"
        )
    from components.evaluation.harness import load_tasks
    from components.training import machine

    load_tasks(file)  # a wrong task is told before any training
    settings.apply(workspace, catalogue.compute.threads)
    names = catalogue.adapters_of(pipeline)
    trained = [name for name in names if catalogue.adapters[name].method != "prompt"]
    with locks.hold(workspace / ".kindling" / "run.lock"):
        _bring_up_to_date(workspace, catalogue, pipeline, trained, say)
        machine.settle_products()
        with _parent(workspace, pipeline) as log:
            for name in [BASE, *trained]:
                judged = _judge(workspace / "artifacts" / pipeline, name, file)
                if judged is None:
                    say(f"{name} answers with a class, not with words: left out")
                    continue
                figures, folder, cut = judged
                if cut:
                    say(f"{name}: {cut} continuations did not fit and lost their beginning")
                log(name, figures, folder, file)
                yield name, figures


def _bring_up_to_date(
    workspace: Path,
    catalogue: Catalogue,
    pipeline: str,
    adapters: Sequence[str],
    say: Callable[[str], None],
) -> None:
    graph.ensure_repository(workspace)
    expansion.renew(workspace, catalogue, say)
    stale = graph.stale(workspace)
    data.check(workspace, catalogue, catalogue.datasets_of(pipeline), stale, say)
    with forkserver.running(workspace) if stale else nullcontext() as server:
        environment = settings.child_environment(settings.told(None, server))
        made = "brought" if catalogue.pipelines[pipeline].base else BASE
        for stage in [f"{made}@{pipeline}", *(f"adapter@{name}" for name in adapters)]:
            graph.reproduce(workspace, stage, environment, say, upstream=True)


def _judge(pipeline: Path, name: str, file: Path) -> tuple[Figures, Path, int] | None:
    """The figures of the base or an adapter of the folder `pipeline`, its own folder, and how many
    continuations were cut.
    """
    from transformers import AutoTokenizer

    from components.adapters import load_adapter
    from components.evaluation.harness import evaluate_tasks
    from components.models import llama

    base = pipeline / BASE
    folder = base if name == BASE else pipeline / "adapters" / name
    model = llama.load(base) if name == BASE else load_adapter(base, folder)
    if model.get_output_embeddings() is None:
        return None
    told = evaluate_tasks(model, AutoTokenizer.from_pretrained(base), file)
    return figures_of(told["results"]), folder, told["truncated"]


def figures_of(results: Mapping[str, Mapping[str, Any]]) -> Figures:
    """The harness's figures: "acc,none" is "acc", and the name of any other filter follows a dot.

    What is no number is left out, and so is infinity, which neither JSON nor MLflow's charts take.
    """
    found: Figures = {}
    for task, values in results.items():
        for key, value in values.items():
            metric, comma, used = key.partition(",")
            if comma and isinstance(value, int | float) and math.isfinite(value):
                name = metric if used == "none" else f"{metric}.{used}"
                found.setdefault(task, {})[name] = float(value)
    return found


@contextmanager
def _parent(workspace: Path, pipeline: str) -> Iterator[Callable[[str, Figures, Path, Path], None]]:
    """A run of MLflow above one for each model, and what adds such a one."""
    mlflow = tracking.client(workspace)
    tags = {
        "kindling.pipeline": pipeline,
        "kindling.started_by": "kindling evaluate --harness",
        "kindling.commit": evidence.commit(workspace),
    }
    parent = tracking.start_parent(workspace, pipeline, tags)
    where = tracking.experiment(mlflow, workspace, pipeline)
    ended = "FAILED"

    def log(name: str, figures: Figures, folder: Path, file: Path) -> None:
        stage = f"harness@{name}"
        about = {**tags, "kindling.stage": stage, "kindling.judged": content_of(folder)}
        run = mlflow.create_run(where, run_name=stage, tags={**about, tracking.PARENT: parent})
        flat = {f"{task}.{key}": v for task, one in figures.items() for key, v in one.items()}
        tracking.log(mlflow, run.info.run_id, flat)
        tracking.log(mlflow, parent, {f"{name}.{key}": value for key, value in flat.items()})
        mlflow.log_artifact(run.info.run_id, str(file))
        mlflow.set_terminated(run.info.run_id, "FINISHED")

    try:
        yield log
        ended = "FINISHED"
    finally:
        tracking.end_parent(workspace, mlflow, parent, ended)


def table(names: Mapping[str, Figures]) -> str:
    """What is printed: a line for each model, task and metric, with its standard error."""
    lines = [("model", "task", "metric", "value", "standard error")]
    for name, figures in names.items():
        for task, values in figures.items():
            for metric, value in values.items():
                if "_stderr" in metric:
                    continue
                head, dot, used = metric.partition(".")
                error = values.get(f"{head}_stderr{dot}{used}")
                told = "" if error is None else f"± {error:.4f}"
                lines.append((name, task, metric, f"{value:.4f}", told))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
