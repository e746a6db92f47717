"""What the blocks of a catalogue say about each other, where a mistake would end a run midway."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.adapters import AdapterBlock
from components.adapters.prompt import PromptDesign
from components.dataset import Dataset
from components.metric_names import LOWER_IS_BETTER
from components.mistakes import suggestion
from components.prompts import Prompt, variables_of
from components.schema import Catalogue
from components.tasks import Task

RESERVED = "base"  # the name of every pipeline's foundation model among its adapters
FOLDERS = (
    "datasets",
    "tasks",
    "controls",
    "comparisons",
)  # of artifacts/, beside a folder for each pipeline
FLOW = "flows.pipeline:pipeline"  # the entry point whose parameters are known here
NAMED = ("datasets", "prompts", "pipelines", "tasks", "adapters", "gates", "comparisons")
OF_TEXTS = ("prompt", "lora", "ia3", "full")  # methods that act without a token before them
NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Mistake:
    """place: the keys that lead to it."""

    place: tuple[Any, ...]
    said: str


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
            yield from _known(catalogue, ("pipelines", name, "corpus"), pipeline.corpus, "datasets")
    for name, task in catalogue.tasks.items():
        yield from _known(catalogue, ("tasks", name, "dataset"), task.dataset, "datasets")
        yield from _known(catalogue, ("tasks", name, "prompt"), task.prompt, "prompts")
    for name, adapter in catalogue.adapters.items():
        yield from _known(catalogue, ("adapters", name, "pipeline"), adapter.pipeline, "pipelines")
        yield from _known(catalogue, ("adapters", name, "task"), adapter.task, "tasks")
    for name, gate in catalogue.gates.items():
        yield from _known(catalogue, ("gates", name, "baseline"), gate.baseline, "adapters")
    for name, comparison in catalogue.comparisons.items():
        for pipeline in comparison.pipelines:
            yield from _known(catalogue, ("comparisons", name, "pipeline"), pipeline, "pipelines")
        yield from _known(catalogue, ("comparisons", name, "task"), comparison.task, "tasks")


def _known(
    catalogue: Catalogue, place: tuple[Any, ...], value: Any, block: str
) -> Iterator[Mistake]:
    known = getattr(catalogue, block)
    if value not in list(known):  # a deployment may hold anything, even what has no hash
        yield Mistake(place, f"no {block} block is called '{value}'{suggestion(value, known)}")


def _names(catalogue: Catalogue) -> Iterator[Mistake]:
    """Names become folders, stages and registered models."""
    for block in NAMED:
        for name in getattr(catalogue, block):
            if not NAME.fullmatch(name):
                yield Mistake((block, name), "names are letters, digits, '_' and '-'")
    if RESERVED in catalogue.adapters:
        yield Mistake(("adapters", RESERVED), "this name is the foundation model's; rename it")
    for name in FOLDERS:
        if name in catalogue.pipelines:
            said = f"artifacts/{name} holds all {name}; rename the pipeline"
            yield Mistake(("pipelines", name), said)


def _pipelines(catalogue: Catalogue) -> Iterator[Mistake]:
    compared = {p for block in catalogue.comparisons.values() for p in block.pipelines}
    count = catalogue.compute.nodes * catalogue.compute.processes
    for name, pipeline in catalogue.pipelines.items():
        if pipeline.pretrain is not None and pipeline.model is not None:
            yield from _batch(name, pipeline.pretrain.batch_tokens, pipeline.model.context, count)
        if name not in compared and not catalogue.adapters_of(name):
            task = next(iter(catalogue.tasks), "TASK")
            block = f"{name}_zero_shot: {{pipeline: {name}, task: {task}, method: prompt}}"
            said = f"no adapter is made on its base, so there is nothing to judge; add '{block}'"
            yield Mistake(("pipelines", name), f"{said} to adapters")


def _batch(name: str, batch: int, context: int, count: int) -> Iterator[Mistake]:
    """count: processes that share a step's sequences."""
    if batch % context:
        near = max(1, round(batch / context)) * context
        said = f"{batch} is no multiple of model.context {context}; {near} would be"
        yield Mistake(("pipelines", name, "pretrain", "batch_tokens"), said)
    elif (batch // context) % count:
        said = f"a step's {batch // context} sequences of {context} tokens cannot be shared evenly "
        said += f"by {count} processes (compute: nodes x processes)"
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


def _tasks(catalogue: Catalogue) -> Iterator[Mistake]:
    """The data set has what the kind of task needs; the prompt asks for what rows have."""
    for name, task in catalogue.tasks.items():
        dataset = catalogue.datasets.get(task.dataset)
        prompt = catalogue.prompts.get(task.prompt)
        if dataset is None:
            continue
        known = {n: block for n, block in catalogue.datasets.items() if FITS[task.kind](block)}
        if task.dataset not in known:
            needed, key = NEEDS[task.kind]
            said = (
                f"a {task.kind} task needs {needed}, and data set '{task.dataset}' has no '{key}'; "
            )
            said += f"data sets with {needed}: {', '.join(known) or '(none)'}"
            yield Mistake(("tasks", name, "dataset"), said)
        elif prompt is not None:
            yield from ANSWERS[task.kind](name, task, prompt, dataset)
        if prompt is not None:
            yield from _variables(task, ("template",), prompt.template, dataset)
            for number, template in enumerate(prompt.paraphrases):
                yield from _variables(task, ("paraphrases", number), template, dataset)


def _variables(
    task: Task, key: tuple[Any, ...], template: str, dataset: Dataset
) -> Iterator[Mistake]:
    """What a template at `key` of the task's prompt asks for is in the rows."""
    for variable in variables_of(template):
        if variable not in dataset.variables:
            said = f"rows of data set '{task.dataset}' have no '{variable}'"
            said += suggestion(variable, dataset.variables)
            yield Mistake(("prompts", task.prompt, *key), said)


def _label_answers(name: str, task: Task, prompt: Prompt, dataset: Dataset) -> Iterator[Mistake]:
    place, labels = ("prompts", task.prompt, "answer"), dataset.label_names
    if not prompt.labels:
        words = ", ".join(f"{label}: ' {label}'" for label in labels)
        said = f"task '{name}' is a classification: give each label its words, as in {{{words}}}"
        yield Mistake(place, said)
        return
    for label in prompt.labels:
        if label not in labels:
            said = f"data set '{task.dataset}' has no label '{label}'{suggestion(label, labels)}"
            yield Mistake((*place, label), said)
    if missing := [label for label in labels if label not in prompt.labels]:
        said = f"no answer for {', '.join(missing)}; data set '{task.dataset}' has the labels "
        yield Mistake(place, said + ", ".join(labels))


def _free_answer(name: str, task: Task, prompt: Prompt, dataset: Dataset) -> Iterator[Mistake]:
    if isinstance(prompt.answer, str):
        yield from _variables(task, ("answer",), prompt.answer, dataset)
        return
    said = f"task '{name}' is a generation: answer is a template, as in ' {{{{target}}}}'"
    yield Mistake(("prompts", task.prompt, "answer"), said)


def _no_answer(name: str, task: Task, prompt: Prompt, dataset: Dataset) -> Iterator[Mistake]:
    if prompt.answer is not None:
        said = f"task '{name}' is judged by the template's text itself, '{prompt.template}'; drop "
        yield Mistake(("prompts", task.prompt, "answer"), f"{said}answer, or name another prompt")
    if prompt.paraphrases:
        said = f"task '{name}' judges texts as they are; drop paraphrases, or name another prompt"
        yield Mistake(("prompts", task.prompt, "paraphrases"), said)


FITS: Mapping[str, Callable[[Dataset], bool]] = {
    "classification": lambda dataset: bool(dataset.label),
    "generation": lambda dataset: bool(dataset.source),
    "language_modelling": lambda dataset: True,
}
NEEDS = {
    "classification": ("labels", "label"),
    "generation": ("pairs", "source"),
    "language_modelling": ("texts", "text"),
}
ANSWERS: Mapping[str, Callable[[str, Task, Prompt, Dataset], Iterator[Mistake]]] = {
    "classification": _label_answers,
    "generation": _free_answer,
    "language_modelling": _no_answer,
}


def _adapters(catalogue: Catalogue) -> Iterator[Mistake]:
    """The method fits the kind of the task, and an answer the context of the pipeline."""
    for name, block in catalogue.adapters.items():
        yield from _adapter(catalogue, ("adapters", name), block)
    for name, comparison in catalogue.comparisons.items():
        for entry in comparison.entries(name):
            yield from _adapter(
                catalogue, ("comparisons", name, "methods", entry.name), entry.adapter
            )


def _adapter(
    catalogue: Catalogue, place: tuple[Any, ...], block: AdapterBlock
) -> Iterator[Mistake]:
    """place: where the adapter's settings stand."""
    task, pipeline = catalogue.tasks.get(block.task), catalogue.pipelines.get(block.pipeline)
    if task is None or pipeline is None:
        return
    if task.kind == "generation" and pipeline.model is not None:
        context = pipeline.model.context - getattr(block, "virtual_tokens", 0)
        if task.max_new_tokens > context - 2:
            said = f"{task.max_new_tokens} leaves no room for a prompt in the {context} tokens of "
            said += f"pipeline '{block.pipeline}' with adapter '{place[-1]}'; lower it"
            yield Mistake(("tasks", block.task, "max_new_tokens"), said)
    for key in ("samples", "temperature"):
        if key in block.model_fields_set and task.kind != "generation":
            said = f"{key} belongs to generated answers; task '{block.task}' is {task.kind}"
            yield Mistake((*place, key), said)
    if "content_free" in block.model_fields_set and task.kind != "classification":
        said = f"content_free belongs to labels; task '{block.task}' is {task.kind}"
        yield Mistake((*place, "content_free"), said)
    yield from _orders(catalogue, place, block)
    if block.method == "head" and task.kind != "classification":
        said = f"a head chooses among labels; task '{block.task}' is {task.kind} and has none"
        yield Mistake((*place, "method"), said)
    if task.kind == "language_modelling":
        yield from _of_language_modelling(catalogue, place, block)


def _orders(catalogue: Catalogue, place: tuple[Any, ...], block: AdapterBlock) -> Iterator[Mistake]:
    """Fewer than two worked examples have one order."""
    if not isinstance(block, PromptDesign) or block.orders == 1:
        return
    prompt = catalogue.prompts.get(catalogue.tasks[block.task].prompt)
    shots = block.shots if block.shots is not None or not prompt else prompt.shots
    if shots is not None and shots < 2:
        said = f"{block.orders} orders of {shots} shots; give it two shots or more"
        yield Mistake((*place, "orders"), said)


def _of_language_modelling(
    catalogue: Catalogue, place: tuple[Any, ...], block: AdapterBlock
) -> Iterator[Mistake]:
    """Nothing stands before a text: no soft prompt could be heard, and no worked example read."""
    if block.method not in OF_TEXTS:
        said = f"{block.method} needs a prompt to stand before, and task '{block.task}' has none; "
        yield Mistake((*place, "method"), f"{said}known: {', '.join(OF_TEXTS)}")
    prompt = catalogue.prompts.get(catalogue.tasks[block.task].prompt)
    shots = getattr(block, "shots", None)
    if prompt.shots if shots is None and prompt else shots:
        said = f"task '{block.task}' is judged by whole texts, with no worked examples before them"
        yield Mistake((*place, "shots"), f"{said}; set shots: 0")


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
        if value is not None and "{{" not in str(value):  # Prefect fills such in
            place = ("deployments", number, "parameters", "pipeline")
            yield from _known(catalogue, place, value, "pipelines")


CHECKS = (
    *(_references, _names, _pipelines, _tasks, _adapters),
    *(_gates, _deployments, _comparisons),
)
