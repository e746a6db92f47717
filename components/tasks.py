"""Tasks: a data set's rows rendered with a prompt, and what an answer to them is judged by."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from components.block import Block
from components.lineage import read_jsonl, text_hash, write_json, write_jsonl
from components.metric_names import METRICS, NORMALISED
from components.prompts import Prompt, find_answer, render, variables_of
from components.reporter import Reporter

ID_LENGTH = 12

Row = dict[str, Any]


class Task(Block):
    """What a model is asked to do. max_train, max_eval: at most so many rows of a split.

    metric: left out, the first of its kind in `metric_names.py`. max_new_tokens: of a generated
    answer. normalise: what is made equal before answers are compared, see `text_scores.py`.
    """

    dataset: str
    kind: Literal["classification", "generation", "language_modelling"]
    prompt: str
    metric: str = ""
    max_train: int | None = Field(default=None, ge=1)
    max_eval: int | None = Field(default=None, ge=1)
    max_new_tokens: int = Field(default=64, ge=1)
    normalise: Literal["squad", "number", "none"] = "squad"

    @model_validator(mode="before")
    @classmethod
    def _default_metric(cls, values: Any) -> Any:
        kind = values.get("kind") if isinstance(values, dict) else None
        if kind not in METRICS or "metric" in values:
            return values
        return {**values, "metric": METRICS[kind][0]}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "Task":
        if self.metric not in METRICS[self.kind]:
            known = ", ".join(METRICS[self.kind])
            raise ValueError(f"metric '{self.metric}': a {self.kind} task has {known}")
        if "max_new_tokens" in self.model_fields_set and self.kind != "generation":
            raise ValueError(f"max_new_tokens belongs to kind: generation, not to {self.kind}")
        if "normalise" in self.model_fields_set and self.metric not in NORMALISED:
            known = " and ".join(NORMALISED)
            raise ValueError(f"normalise belongs to metric {known}, not to {self.metric}")
        return self


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

    Rows are {"id", "prompt", "answer", "label", "text"}: what is read, what has to follow, what a
    prediction is compared with: a label, or the final answer of a text (empty for language models,
    whose answer is the whole text), and what of it the data set itself says, without a word of the
    template. Rows of generated answers have "columns" too, what another template may ask for, and
    those with worked steps their number as "steps", those of preferences the other answer as
    "rejected"; those of a prompt with paraphrases have "paraphrases", what is read in each. Of rows
    that read the same and have the same label, and reject the same, one is kept. A limit keeps the
    rows with the smallest hashes, so a larger limit only adds rows.

    Raises:
        ValueError: a row does not fit the prompt: no such label or column, no final answer.
    """
    counts = {}
    seen: set[str] = set()
    splits = ("train", "validation", "test")
    for done, split in enumerate(splits):
        limit = task.max_train if split == "train" else task.max_eval
        found = read_jsonl(dataset / f"{split}.jsonl")
        rows = {row["id"]: row for row in (RENDERED[task.kind](r, prompt, dataset) for r in found)}
        rows = [rows[key] for key in sorted(rows)][:limit]
        counts[split] = write_jsonl(out / f"{split}.jsonl", rows)
        seen.update(row["label"] for row in rows)
        report.progress(done + 1, len(splits), split)
    if idle := sorted(set(prompt.labels) - seen):
        raise ValueError(
            f"prompts.{prompt_name}.answer names labels that no row of {dataset.name} has: "
            f"{', '.join(idle)}; its labels are {', '.join(sorted(seen))}"
        )
    description = {
        "name": name,
        "kind": task.kind,
        "metric": task.metric,
        "max_new_tokens": task.max_new_tokens,
        "normalise": task.normalise,
        "labels": prompt.labels,
        "prompt": {"name": prompt_name, **prompt.model_dump(mode="json"), "sha": prompt.sha},
        "counts": counts,
    }
    write_json(out / "task.json", description)
    return {split: float(count) for split, count in counts.items()}


def _classification(row: Mapping[str, Any], prompt: Prompt, dataset: Path) -> Row:
    label = row.get("label")
    if label not in prompt.labels:
        raise ValueError(
            f"data set {dataset.name}: label {label!r} has no answer in the prompt; "
            f"answers stand for {', '.join(prompt.labels)}"
        )
    columns = {key: value for key, value in row.items() if key != "label"}
    return {
        "id": text_hash(row["text"], label)[:ID_LENGTH],
        "prompt": _filled(prompt.template, columns, dataset),
        "answer": prompt.labels[label],
        "label": label,
        "text": row["text"],
        **_paraphrased(prompt, columns, dataset),
    }


def _generation(row: Mapping[str, Any], prompt: Prompt, dataset: Path) -> Row:
    """The id and the label are those of the row, whatever the wording: worked steps and a direct
    answer are judged on the same examples.
    """
    assert isinstance(prompt.answer, str), prompt.answer
    columns = _columns(row)
    asked = [row["source"], *row.get("extra", {}).values()]
    answer = _filled(prompt.answer, columns, dataset)
    label = find_answer(prompt.extract, answer)
    if not label:
        raise ValueError(
            f"data set {dataset.name}: the prompt's extract {prompt.extract!r} finds no answer in "
            f"{answer!r}"
        )
    rejected = {}
    if "rejected" in row:  # in the words of the answer that is preferred to it
        other = _filled(prompt.answer, columns | {"target": row["rejected"]}, dataset)
        rejected = {"rejected": other}
    counted = {"steps": len(row["steps"].splitlines())} if "steps" in row else {}
    return {
        "id": text_hash(*asked, label, *rejected.values())[:ID_LENGTH],
        "prompt": _filled(prompt.template, columns, dataset),
        "answer": answer,
        "label": label,
        "text": _own_words(prompt.template, columns),
        "columns": {name: text for name, text in columns.items() if isinstance(text, str)},
        **counted,
        **rejected,
        **_paraphrased(prompt, columns, dataset),
    }


def _language_modelling(row: Mapping[str, Any], prompt: Prompt, dataset: Path) -> Row:
    columns = _columns(row)
    text = _filled(prompt.template, columns, dataset)
    return {
        "id": text_hash(text)[:ID_LENGTH],
        "prompt": "",
        "answer": text,
        "label": "",
        "text": _own_words(prompt.template, columns),
    }


def _columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a template may ask for by name: the columns that `extra` names beside the others, and
    not an answer that is rejected.
    """
    return {key: row[key] for key in row if key != "rejected"} | row.get("extra", {})


def _own_words(template: str, columns: Mapping[str, Any]) -> str:
    """What the row puts into `template`, a line for each column that is not empty.

    The template's own words stand in every row: they would make a corpus look clean that holds the
    rows, and rows alike that differ.
    """
    return "\n".join(filter(None, (columns[name] for name in variables_of(template))))


def _paraphrased(prompt: Prompt, columns: Mapping[str, Any], dataset: Path) -> Row:
    """The row in the prompt's other wordings, if it has any."""
    worded = [_filled(template, columns, dataset) for template in prompt.paraphrases]
    return {"paraphrases": worded} if worded else {}


def _filled(template: str, columns: Mapping[str, Any], dataset: Path) -> str:
    """`template` with what it asks for."""
    wanted = variables_of(template)
    if missing := [name for name in wanted if name not in columns]:
        raise ValueError(
            f"the template asks for {', '.join(missing)}; data set {dataset.name} has the columns "
            f"{', '.join(columns)}"
        )
    return render(template, {name: columns[name] for name in wanted})


RENDERED: Mapping[str, Callable[[Mapping[str, Any], Prompt, Path], Row]] = {
    "classification": _classification,
    "generation": _generation,
    "language_modelling": _language_modelling,
}
