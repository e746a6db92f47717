"""What is judged: an adapted model, with what its adapter and its task say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.lineage import read_json
from components.prompts import with_shots

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


def open_subject(adapter: Path, task: Path, base: Path) -> Subject:
    """The adapter of folder `adapter` on its base, and the task of folder `task`.

    Raises:
        ValueError: adapter and base do not belong together.
    """
    from transformers import AutoTokenizer

    from components.adapters import METHODS, load_adapter

    described, asked = read_json(adapter / "adapter.json"), read_json(task / "task.json")
    tokenizer = AutoTokenizer.from_pretrained(base)
    model, method = load_adapter(base, adapter), METHODS[described["method"]]
    return Subject(model, tokenizer, described, asked, method)
