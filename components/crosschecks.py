"""What the blocks of a catalogue say about each other, where a mistake would end a run midway."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.adapters.prompt import PromptDesign
from components.mistakes import suggestion
from components.prompts import Prompt, variables_of
from components.schema import Catalogue

RESERVED = "base"  # the name of every pipeline's foundation model among its adapters
FOLDERS = ("datasets", "tasks", "controls")  # of artifacts/, beside a folder for each pipeline
FLOW = "flows.pipeline:pipeline"  # the entry point whose parameters are known here
NAMED = ("datasets", "prompts", "pipelines", "tasks", "adapters", "gates")
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
    for check in (_references, _names, _pipelines, _tasks, _orders, _gates, _deployments):
        yield from check(catalogue)


def _references(catalogue: Catalogue) -> Iterator[Mistake]:
    """Names that one block uses for another."""
    for name, pipeline in catalogue.pipelines.items():
        yield from _known(catalogue, ("pipelines", name, "corpus"), pipeline.corpus, "datasets")
    for name, task in catalogue.tasks.items():
        yield from _known(catalogue, ("tasks", name, "dataset"), task.dataset, "datasets")
        yield from _known(catalogue, ("tasks", name, "prompt"), task.prompt, "prompts")
    for name, adapter in catalogue.adapters.items():
        yield from _known(catalogue, ("adapters", name, "pipeline"), adapter.pipeline, "pipelines")
        yield from _known(catalogue, ("adapters", name, "task"), adapter.task, "tasks")
    for name, gate in catalogue.gates.items():
        yield from _known(catalogue, ("gates", name, "baseline"), gate.baseline, "adapters")


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
    for name, pipeline in catalogue.pipelines.items():
        batch, context = pipeline.pretrain.batch_tokens, pipeline.model.context
        if batch % context:
            near = max(1, round(batch / context)) * context
            said = f"{batch} is no multiple of model.context {context}; {near} would be"
            yield Mistake(("pipelines", name, "pretrain", "batch_tokens"), said)
        if not catalogue.adapters_of(name):
            task = next(iter(catalogue.tasks), "TASK")
            block = f"{name}_zero_shot: {{pipeline: {name}, task: {task}, method: prompt}}"
            said = f"no adapter is made on its base, so there is nothing to judge; add '{block}'"
            yield Mistake(("pipelines", name), f"{said} to adapters")


def _tasks(catalogue: Catalogue) -> Iterator[Mistake]:
    """The data set has labels; the prompt answers each of them, and asks for what rows have."""
    for name, task in catalogue.tasks.items():
        dataset = catalogue.datasets.get(task.dataset)
        prompt = catalogue.prompts.get(task.prompt)
        if dataset is None:
            continue
        if not dataset.label:
            labelled = [n for n, block in catalogue.datasets.items() if block.label]
            said = f"a {task.kind} task needs labels, and data set '{task.dataset}' has no 'label'"
            known = ", ".join(labelled) or "(none)"
            yield Mistake(("tasks", name, "dataset"), f"{said}; data sets with labels: {known}")
        elif prompt is not None:
            yield from _answers(task.prompt, prompt.answer, task.dataset, dataset.label_names)
        if prompt is not None:
            yield from _variables(task.prompt, prompt, task.dataset, dataset.variables)


def _variables(
    name: str, prompt: Prompt, dataset: str, known: tuple[str, ...]
) -> Iterator[Mistake]:
    """What the templates ask for is in the rows."""
    templates: dict[tuple[Any, ...], str] = {("template",): prompt.template}
    templates |= {("paraphrases", n): text for n, text in enumerate(prompt.paraphrases)}
    for place, template in templates.items():
        for variable in variables_of(template):
            if variable not in known:
                said = f"rows of data set '{dataset}' have no '{variable}'"
                yield Mistake(("prompts", name, *place), said + suggestion(variable, known))


def _answers(
    prompt: str, answer: dict[str, str], dataset: str, labels: list[str]
) -> Iterator[Mistake]:
    place = ("prompts", prompt, "answer")
    for label in answer:
        if label not in labels:
            said = f"data set '{dataset}' has no label '{label}'{suggestion(label, labels)}"
            yield Mistake((*place, label), said)
    if missing := [label for label in labels if label not in answer]:
        said = f"no answer for {', '.join(missing)}; data set '{dataset}' has the labels "
        yield Mistake(place, said + ", ".join(labels))


def _orders(catalogue: Catalogue) -> Iterator[Mistake]:
    """Fewer than two worked examples have one order."""
    for name, adapter in catalogue.adapters.items():
        if not isinstance(adapter, PromptDesign) or adapter.orders == 1:
            continue
        task = catalogue.tasks.get(adapter.task)
        prompt = catalogue.prompts.get(task.prompt) if task else None
        shots = adapter.shots if adapter.shots is not None or not prompt else prompt.shots
        if shots is not None and shots < 2:
            said = f"{adapter.orders} orders of {shots} shots; give it two shots or more"
            yield Mistake(("adapters", name, "orders"), said)


def _gates(catalogue: Catalogue) -> Iterator[Mistake]:
    """One gate for a pipeline and task, or which one judges would depend on their order."""
    seen: dict[tuple[str, str], str] = {}
    for name, gate in catalogue.gates.items():
        baseline = catalogue.adapters.get(gate.baseline)
        if baseline is None:
            continue
        other = seen.setdefault((baseline.pipeline, baseline.task), name)
        if other != name:
            said = f"gate '{other}' already judges task '{baseline.task}' on '{baseline.pipeline}'"
            yield Mistake(("gates", name), f"{said}; drop one")


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
