"""What tasks, their prompts and the adapters made for them say about each other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from components.adapters import AdapterBlock
from components.adapters.prompt import PromptDesign
from components.adapters.settings import Trained
from components.adapters.virtual_tokens import VirtualTokens
from components.dataset import Dataset
from components.mistakes import Mistake, suggestion
from components.models.llama import MATRICES
from components.prompts import Prompt, variables_of
from components.schema import Catalogue
from components.tasks import Task

OF_TEXTS = ("prompt", "lora", "ia3", "full")  # methods that act without a token before them


def tasks(catalogue: Catalogue) -> Iterator[Mistake]:
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


def adapters(catalogue: Catalogue) -> Iterator[Mistake]:
    """The method fits the kind of the task, and an answer the context of the pipeline."""
    for name, block in catalogue.adapters.items():
        place = ("adapters", name)
        yield from _adapter(catalogue, place, block)
        yield from _examples(catalogue, place, block.task, block.examples)
    for name, comparison in catalogue.comparisons.items():
        for entry in comparison.entries(name):
            block = entry.adapter.model_copy(update={"examples": entry.examples})
            yield from _adapter(catalogue, ("comparisons", name, "methods", entry.name), block)
            yield from _examples(catalogue, ("comparisons", name), entry.task, entry.examples)


def _adapter(
    catalogue: Catalogue, place: tuple[Any, ...], block: AdapterBlock
) -> Iterator[Mistake]:
    """place: where the adapter's settings stand."""
    if block.task in catalogue.tasks and block.pipeline in catalogue.pipelines:
        for check in OF_ADAPTERS:
            yield from check(catalogue, place, block)


def _room(catalogue: Catalogue, place: tuple[Any, ...], block: AdapterBlock) -> Iterator[Mistake]:
    """Beside virtual tokens and what is generated there is room for text."""
    task, model = catalogue.tasks[block.task], catalogue.pipelines[block.pipeline].model
    if model is None:
        return
    virtual = getattr(block, "virtual_tokens", 0)
    if virtual > model.context - 2:
        said = f"{virtual} leave no room for text in the {model.context} tokens of "
        yield Mistake((*place, "virtual_tokens"), f"{said}pipeline '{block.pipeline}'; lower it")
    elif task.kind == "generation" and task.max_new_tokens > model.context - virtual - 2:
        said = f"{task.max_new_tokens} leaves no room for a prompt in the {model.context - virtual}"
        said += f" tokens of pipeline '{block.pipeline}' with adapter '{place[-1]}'; lower it"
        yield Mistake(("tasks", block.task, "max_new_tokens"), said)


def _kind(catalogue: Catalogue, place: tuple[Any, ...], block: AdapterBlock) -> Iterator[Mistake]:
    """The settings and the method belong to the kind of the task."""
    task = catalogue.tasks[block.task]
    for key in ("samples", "temperature"):
        if key in block.model_fields_set and task.kind != "generation":
            said = f"{key} belongs to generated answers; task '{block.task}' is {task.kind}"
            yield Mistake((*place, key), said)
    if "content_free" in block.model_fields_set and task.kind != "classification":
        said = f"content_free belongs to labels; task '{block.task}' is {task.kind}"
        yield Mistake((*place, "content_free"), said)
    if block.method == "head" and task.kind != "classification":
        said = f"a head chooses among labels; task '{block.task}' is {task.kind} and has none"
        yield Mistake((*place, "method"), said)
    if block.method == "dpo" and task.kind == "generation":
        yield from _preferences(catalogue, place, block)
    if task.kind == "language_modelling":
        yield from _of_language_modelling(catalogue, place, block)


def _targets(
    catalogue: Catalogue, place: tuple[Any, ...], block: AdapterBlock
) -> Iterator[Mistake]:
    """Deltas stand at matrices that a decoder trained here has; PEFT passes over others."""
    targets = getattr(block, "targets", ())
    if catalogue.pipelines[block.pipeline].model is None or isinstance(targets, str):
        return
    for target in targets:
        if target.rpartition(".")[2] not in MATRICES:
            said = f"a layer has no matrix '{target}'{suggestion(target, MATRICES)}"
            yield Mistake((*place, "targets"), said)


def _encoder(
    catalogue: Catalogue, place: tuple[Any, ...], block: AdapterBlock
) -> Iterator[Mistake]:
    """The encoder of virtual tokens is wide enough to give each its own vector."""
    model = catalogue.pipelines[block.pipeline].model
    if not isinstance(block, VirtualTokens):
        return
    most = block.told_apart(model.width if model else None)
    if most is not None and most < block.virtual_tokens:
        said = f"an encoder so wide cannot tell {block.virtual_tokens} virtual_tokens apart, only "
        yield Mistake((*place, "encoder_width"), f"{said}{most}; raise it, or lower virtual_tokens")


def _examples(
    catalogue: Catalogue, place: tuple[Any, ...], name: str, examples: int | None
) -> Iterator[Mistake]:
    """There are as many training rows of task `name` as are asked for."""
    task = catalogue.tasks.get(name)
    if task and task.max_train and (examples or 0) > task.max_train:
        said = f"{examples} are more than the {task.max_train} training rows that task '{name}' "
        yield Mistake((*place, "examples"), f"{said}keeps; lower it, or raise max_train")


def _shots(catalogue: Catalogue, place: tuple[Any, ...], block: AdapterBlock) -> Iterator[Mistake]:
    """There are as many training rows as worked examples, and one more where it is trained on."""
    task = catalogue.tasks[block.task]
    rows = min(filter(None, (block.examples, task.max_train)), default=None)
    prompt = catalogue.prompts.get(task.prompt)
    own = getattr(block, "shots", None)
    if own is None and isinstance(block, PromptDesign) and place[0] == "comparisons":
        return  # as many are tried as there are rows
    shots = own if own is not None or not prompt else prompt.shots
    if rows is None or not shots or shots + isinstance(block, Trained) <= rows:
        return
    said = f"{shots} worked examples of {rows} training rows of task '{block.task}'"
    said += " leave none to train on" if shots == rows else " are more than there are"
    where = ("prompts", task.prompt) if own is None else place
    yield Mistake((*where, "shots"), f"{said}; lower it, or raise examples or max_train")


def _preferences(
    catalogue: Catalogue, place: tuple[Any, ...], block: AdapterBlock
) -> Iterator[Mistake]:
    """A generated answer is preferred to the one that its row rejects, in the same words."""
    task = catalogue.tasks[block.task]
    dataset, prompt = catalogue.datasets.get(task.dataset), catalogue.prompts.get(task.prompt)
    if dataset and not dataset.rejected:
        said = f"dpo needs an answer to prefer each target to, and data set '{task.dataset}' of "
        said += f"task '{block.task}' has none; name its column there: 'rejected: COLUMN'"
        yield Mistake((*place, "method"), said)
    if prompt and isinstance(prompt.answer, str) and "target" not in variables_of(prompt.answer):
        said = f"answer {prompt.answer!r} has no {{{{target}}}}, so dpo would prefer it to itself"
        yield Mistake(("prompts", task.prompt, "answer"), said)


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


OF_ADAPTERS: Sequence[Callable[[Catalogue, tuple[Any, ...], AdapterBlock], Iterator[Mistake]]] = (
    _room,
    _kind,
    _orders,
    _targets,
    _encoder,
    _shots,
)
