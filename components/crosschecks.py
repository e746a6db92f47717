"""What the blocks of a catalogue say about each other, where a mistake would end a run midway."""

import re
from collections.abc import Iterator

from components import ladderchecks, taskchecks
from components.metric_names import LOWER_IS_BETTER
from components.mistakes import Mistake, known, suggestion
from components.schema import Catalogue
from components.training.pretrain import Pretrain
from components.world import GRAMMARS

RESERVED = "base"  # the name of every pipeline's foundation model among its adapters
# of artifacts/, beside a folder for each pipeline
FOLDERS = (
    *("datasets", "tasks", "controls", "comparisons"),
    *("vocabularies", "rungs", "measures"),
)
FLOW = "flows.pipeline:pipeline"  # the entry point whose parameters are known here
NAMED = (
    *("datasets", "prompts", "pipelines", "tasks", "adapters", "gates", "comparisons"),
    *("vocabularies", "rungs", "ladders"),
)
NAME = re.compile(r"[A-Za-z0-9_-]+")


def crosscheck(catalogue: Catalogue) -> Iterator[Mistake]:
    """Every mistake between blocks. A check leaves out what refers to a block that is not there:
    that mistake is told once.
    """
    for check in CHECKS:
        yield from check(catalogue)


def _references(catalogue: Catalogue) -> Iterator[Mistake]:
    """Names that one block uses for another."""
    for name, pipeline in catalogue.pipelines.items():
        if pipeline.corpus is not None:
            yield from known(catalogue, ("pipelines", name, "corpus"), pipeline.corpus, "datasets")
    for name, task in catalogue.tasks.items():
        yield from known(catalogue, ("tasks", name, "dataset"), task.dataset, "datasets")
        yield from known(catalogue, ("tasks", name, "prompt"), task.prompt, "prompts")
    for name, adapter in catalogue.adapters.items():
        yield from known(catalogue, ("adapters", name, "pipeline"), adapter.pipeline, "pipelines")
        yield from known(catalogue, ("adapters", name, "task"), adapter.task, "tasks")
    for name, gate in catalogue.gates.items():
        yield from known(catalogue, ("gates", name, "baseline"), gate.baseline, "adapters")
    for name, comparison in catalogue.comparisons.items():
        for pipeline in comparison.pipelines:
            yield from known(catalogue, ("comparisons", name, "pipeline"), pipeline, "pipelines")
        yield from known(catalogue, ("comparisons", name, "task"), comparison.task, "tasks")


def _names(catalogue: Catalogue) -> Iterator[Mistake]:
    """Names become folders, stages and registered models."""
    for block in NAMED:
        for name in getattr(catalogue, block):
            if not NAME.fullmatch(name):
                yield Mistake((block, name), "names are letters, digits, '_' and '-'")
    if RESERVED in catalogue.adapters:
        yield Mistake(("adapters", RESERVED), "this name is the foundation model's; rename it")
    for name in FOLDERS:
        for block in ("pipelines", "ladders"):
            if name in getattr(catalogue, block):
                said = f"artifacts/{name} holds all {name}; rename this one"
                yield Mistake((block, name), said)
    for name in catalogue.ladders:
        if name in catalogue.pipelines:
            said = "a pipeline is called so too, and a run names one of them; rename the ladder"
            yield Mistake(("ladders", name), said)


def _pipelines(catalogue: Catalogue) -> Iterator[Mistake]:
    compared = {p for block in catalogue.comparisons.values() for p in block.pipelines}
    count = catalogue.compute.nodes * catalogue.compute.processes
    for name, pipeline in catalogue.pipelines.items():
        if pipeline.pretrain is not None and pipeline.model is not None:
            yield from _batch(name, pipeline.pretrain, pipeline.model.context, count)
        if name not in compared and not catalogue.adapters_of(name):
            task = next(iter(catalogue.tasks), "TASK")
            block = f"{name}_zero_shot: {{pipeline: {name}, task: {task}, method: prompt}}"
            said = f"no adapter is made on its base, so there is nothing to judge; add '{block}'"
            yield Mistake(("pipelines", name), f"{said} to adapters")


def _batch(name: str, block: Pretrain, context: int, count: int) -> Iterator[Mistake]:
    """count: processes that share a step's sequences."""
    for key in ("batch_tokens", "micro_batch_tokens"):
        tokens = getattr(block, key)
        if tokens is not None and tokens % context:
            near = max(1, round(tokens / context)) * context
            said = f"{tokens} is no multiple of model.context {context}; {near} would be"
            yield Mistake(("pipelines", name, "pretrain", key), said)
    rows, rest = divmod(block.batch_tokens, context)
    if not rest and rows % count:
        said = f"a step's {rows} sequences of {context} tokens cannot be shared evenly by {count} "
        said += "processes (compute: nodes x processes)"
        yield Mistake(("pipelines", name, "pretrain", "batch_tokens"), said)


def _comparisons(catalogue: Catalogue) -> Iterator[Mistake]:
    """Two entries with one name would share a folder."""
    seen: dict[str, str] = {}
    for name, comparison in catalogue.comparisons.items():
        for entry in comparison.entries(name):
            if not NAME.fullmatch(entry.name):
                said = "names of methods are letters, digits, '_' and '-'"
                yield Mistake(("comparisons", name, "methods", entry.name), said)
            other = seen.setdefault(entry.key, name)
            if other != name:
                said = f"its entry '{entry.key}' is one of comparison '{other}' too; rename one"
                yield Mistake(("comparisons", name), said)


def _gates(catalogue: Catalogue) -> Iterator[Mistake]:
    """One gate for a pipeline and task, or which one judges would depend on their order; its bound
    on the side where the task's metric is better.
    """
    seen: dict[tuple[str, str], str] = {}
    for name, gate in catalogue.gates.items():
        baseline = catalogue.adapters.get(gate.baseline)
        if baseline is None:
            continue
        other = seen.setdefault((baseline.pipeline, baseline.task), name)
        if other != name:
            said = f"gate '{other}' already judges task '{baseline.task}' on '{baseline.pipeline}'"
            yield Mistake(("gates", name), f"{said}; drop one")
        task = catalogue.tasks.get(baseline.task)
        lower = task is not None and task.metric in LOWER_IS_BETTER
        if task is not None and lower == (gate.maximum is None):
            wrong, right = ("minimum", "maximum") if lower else ("maximum", "minimum")
            said = f"{task.metric} of task '{baseline.task}' is better where it is "
            said += f"{'lower' if lower else 'higher'}; state {right} instead"
            yield Mistake(("gates", name, wrong), said)


def _deployments(catalogue: Catalogue) -> Iterator[Mistake]:
    """Prefect would accept the deployment, and each of its runs would fail."""
    for number, deployment in enumerate(catalogue.deployments):
        parameters = deployment.get("parameters")
        if deployment.get("entrypoint") != FLOW or not isinstance(parameters, dict):
            continue
        value = parameters.get("pipeline")
        if value is None or "{{" in str(value):  # Prefect fills such in
            continue
        if value not in catalogue.targets:
            place = ("deployments", number, "parameters", "pipeline")
            yield from known(catalogue, place, value, "pipelines")


def _worlds(catalogue: Catalogue) -> Iterator[Mistake]:
    """The kinds of document that a data set takes from the world."""
    for name, block in catalogue.datasets.items():
        for kind in block.kinds or ():
            if kind not in GRAMMARS:
                said = f"the world has no kind '{kind}'{suggestion(kind, GRAMMARS)}"
                yield Mistake(("datasets", name, "kinds"), said)


CHECKS = (
    *(_references, _worlds, _names, _pipelines, taskchecks.tasks, taskchecks.adapters),
    *(_gates, _deployments, _comparisons, ladderchecks.rungs, ladderchecks.ladders),
)
