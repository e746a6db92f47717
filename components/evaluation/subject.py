"""What is judged: an adapted model, with what its adapter and its task say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import read_json
from components.prompts import render, variables_of, with_shots
from components.training import machine

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from components.adapters.method import Method

Row = Mapping[str, Any]
Record = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """adapter: of `adapter.json`; task: of `task.json`. method: how the model is asked."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    adapter: Mapping[str, Any]
    task: Mapping[str, Any]
    method: "Method"

    def prompts(self, rows: Iterable[Row]) -> list[str]:
        """What the model reads of each row, behind the adapter's worked examples."""
        shots: Sequence[str] = self.adapter["prompt"]["shot_texts"]
        return [with_shots(shots, row["prompt"]) for row in rows]

    def worded(self, rows: Iterable[Row]) -> list[Row]:
        """The task's `rows` in the adapter's own wording, which is not the task's where that has
        changed since: a champion that is judged anew is asked as it is when it serves.

        Raises:
            ValueError: its template asks for a column that the task's data set has not.
        """
        own = self.adapter["prompt"]["template"]
        spoken = self.task["kind"] != "language_modelling"  # else the text itself is judged
        if own == self.task["prompt"]["template"] or not spoken:
            return list(rows)
        return [{**row, "prompt": self._filled(own, row)} for row in rows]

    def _filled(self, template: str, row: Row) -> str:
        columns = row.get("columns", {"text": row["text"]})  # a label's row has the text alone
        wanted = variables_of(template)
        if missing := [name for name in wanted if name not in columns]:
            raise ValueError(
                f"adapter {self.adapter['name']} was made with a template that asks for "
                f"{', '.join(missing)}, and the rows of task {self.task['name']} now have "
                f"{', '.join(columns)}; bring the column back, or give the adapter another name"
            )
        return render(template, {name: columns[name] for name in wanted})

    def reworded(self, wording: Mapping[str, Any]) -> "Subject":
        """The same model, asked with another "template" or other "shot_texts"."""
        prompt = {**self.adapter["prompt"], **wording}
        return replace(self, adapter={**self.adapter, "prompt": prompt})


def open_subject(adapter: Path, task: Path, base: Path) -> Subject:
    """The adapter of folder `adapter` on its base, and the task of folder `task`.

    Raises:
        ValueError: adapter and base do not belong together.
    """
    from transformers import AutoTokenizer

    from components.adapters import load_adapter

    model = load_adapter(base, adapter).to(machine.device())
    tokenizer = AutoTokenizer.from_pretrained(base)
    return described(
        model, tokenizer, read_json(adapter / "adapter.json"), read_json(task / "task.json")
    )


def described(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    adapter: Mapping[str, Any],
    task: Mapping[str, Any] | None = None,
) -> Subject:
    """A model that is in memory, and what its adapter.json says; without a task it has no rows."""
    from components.adapters import METHODS

    return Subject(model, tokenizer, adapter, task or {}, METHODS[adapter["method"]])
