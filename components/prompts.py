"""Prompts and tasks: a data set's rows, rendered with a template, with the answers to them.

A template holds `{{variable}}`, as in MLflow's prompt registry. It ends right before the answer,
so an answer begins with the space that follows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from components.block import Block
from components.lineage import read_jsonl, text_hash, write_json, write_jsonl
from components.reporter import Reporter

VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
SHOT_BORDER = "\n\n"  # between worked examples, as in Brown et al. 2020, section 2.1
ID_LENGTH = 12


class Prompt(Block):
    """A wording. answer: what follows the template, by label; shots: worked examples before it.

    paraphrases: other templates, on which an evaluation tries how much the wording matters.
    """

    template: str = Field(min_length=1)
    answer: dict[str, str]
    shots: int = Field(default=0, ge=0)
    paraphrases: list[str] = Field(default_factory=list)

    @field_validator("template")
    @classmethod
    def _has_variable(cls, template: str) -> str:
        if not VARIABLE.search(template):
            raise ValueError("the template has no {{variable}}, so every prompt would be the same")
        return template

    @field_validator("paraphrases")
    @classmethod
    def _have_variables(cls, paraphrases: list[str]) -> list[str]:
        for template in paraphrases:
            if not VARIABLE.search(template):
                raise ValueError(f"the paraphrase {template!r} has no {{{{variable}}}}")
        return paraphrases

    @model_validator(mode="after")
    def _answers_differ(self) -> "Prompt":
        if len(self.answer) < 2:
            raise ValueError("an answer for each of two labels or more is needed")
        if len(set(self.answer.values())) < len(self.answer) or "" in self.answer.values():
            raise ValueError("the labels' answers must differ from each other and not be empty")
        return self


class Task(Block):
    """What a model is asked to do. max_train, max_eval: at most so many rows of a split."""

    dataset: str
    kind: Literal["classification"]
    prompt: str
    metric: Literal["accuracy"] = "accuracy"
    max_train: int | None = Field(default=None, ge=1)
    max_eval: int | None = Field(default=None, ge=1)


def variables_of(template: str) -> list[str]:
    """The names of a template's variables, each once, in order."""
    return list(dict.fromkeys(VARIABLE.findall(template)))


def render(template: str, variables: Mapping[str, str]) -> str:
    """Put `variables` into `template`; what they hold is not searched for variables again.

    Raises:
        ValueError: a variable is missing, or one is given that the template has not.
    """
    wanted = variables_of(template)
    missing = [name for name in wanted if name not in variables]
    unknown = [name for name in variables if name not in wanted]
    if missing or unknown:
        raise ValueError(
            f"template variables are {', '.join(wanted)}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
        )
    return VARIABLE.sub(lambda match: str(variables[match[1]]), template)


def with_shots(shot_texts: Sequence[str], prompt: str) -> str:
    """`prompt` after worked examples."""
    return SHOT_BORDER.join([*shot_texts, prompt])


def choose_shots(rows: Iterable[Mapping[str, str]], count: int, seed: int) -> list[str]:
    """`count` worked examples drawn from training rows, the labels taking turns.

    rows: of a task's `train.jsonl`.

    Raises:
        ValueError: there are not enough rows.
    """
    if count == 0:
        return []
    random = Random(seed)
    by_label: dict[str, list[str]] = {}
    for row in rows:
        by_label.setdefault(row["label"], []).append(row["prompt"] + row["answer"])
    labels = sorted(by_label)
    random.shuffle(labels)
    chosen = []
    for turn in range(count):
        left = by_label[labels[turn % len(labels)]]
        if not left:
            raise ValueError(f"{count} shots asked for, the training rows give only {turn}")
        chosen.append(left.pop(random.randrange(len(left))))
    return chosen


def build_task(
    task: Task,
    name: str,
    prompt: Prompt,
    prompt_name: str,
    dataset: Path,
    out: Path,
    report: Reporter,
) -> dict[str, float]:
    """Render the rows of `dataset` into `out`: `SPLIT.jsonl` and `task.json`.

    A limit keeps the rows with the smallest hashes, so a larger limit only adds rows.

    Raises:
        ValueError: the rows have no label, a label has no answer, or a variable no column.
    """
    counts = {}
    seen: set[str] = set()
    splits = ("train", "validation", "test")
    for done, split in enumerate(splits):
        limit = task.max_train if split == "train" else task.max_eval
        rows = [_render_row(row, prompt, dataset) for row in read_jsonl(dataset / f"{split}.jsonl")]
        rows = sorted(rows, key=lambda row: row["id"])[:limit]
        counts[split] = write_jsonl(out / f"{split}.jsonl", rows)
        seen.update(row["label"] for row in rows)
        report.progress(done + 1, len(splits), split)
    if idle := sorted(set(prompt.answer) - seen):
        raise ValueError(
            f"prompts.{prompt_name}.answer names labels that no row of {dataset.name} has: "
            f"{', '.join(idle)}; its labels are {', '.join(sorted(seen))}"
        )
    wording = {"name": prompt_name, **prompt.model_dump(mode="json")}
    sha = text_hash(prompt.template, *(f"{k}={v}" for k, v in sorted(prompt.answer.items())))
    description = {
        "name": name,
        "kind": task.kind,
        "metric": task.metric,
        "labels": dict(prompt.answer),
        "prompt": {**wording, "sha": sha},
        "counts": counts,
    }
    write_json(out / "task.json", description)
    return {split: float(count) for split, count in counts.items()}


def _render_row(row: Mapping[str, str], prompt: Prompt, dataset: Path) -> dict[str, Any]:
    label = row.get("label")
    if label not in prompt.answer:
        raise ValueError(
            f"data set {dataset.name}: label {label!r} has no answer in the prompt; "
            f"answers stand for {', '.join(prompt.answer)}"
        )
    columns = {key: value for key, value in row.items() if key != "label"}
    worded = [_filled(template, columns, dataset) for template in prompt.paraphrases]
    return {
        "id": text_hash(row["text"], label)[:ID_LENGTH],
        "prompt": _filled(prompt.template, columns, dataset),
        "answer": prompt.answer[label],
        "label": label,
        "text": row["text"],
        **({"paraphrases": worded} if worded else {}),
    }


def _filled(template: str, columns: Mapping[str, str], dataset: Path) -> str:
    """`template` with what it asks for."""
    wanted = variables_of(template)
    if missing := [name for name in wanted if name not in columns]:
        raise ValueError(
            f"the template asks for {', '.join(missing)}; data set {dataset.name} has the columns "
            f"{', '.join(columns)}"
        )
    return render(template, {name: columns[name] for name in wanted})
