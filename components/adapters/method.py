"""What an adaptation method is: how it is built, trained, kept, and asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from components.adapters import answering, peft_folder
from components.adapters.settings import Adapter
from components.adapters.task_data import TaskData

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Objective(Protocol):
    """What is minimised: a `torch.nn.Module` whose parameters hold the model's.

    The loss of a step is the mean over the `weight` of its rows, of which `forward` gives a share:
    the sum over the rows that `encode` was given, over `whole`, the weight of all the step's rows.
    What `encode` gives has an `attention_mask`, (rows, longest): 1 where a token is read.
    answers: each that must fit behind a row's prompt, lest the row be counted as truncated.
    """

    def weight(self, row: Mapping[str, str]) -> int: ...

    def answers(self, row: Mapping[str, str]) -> list[str]: ...

    def encode(self, rows: Sequence[Mapping[str, str]]) -> Any: ...

    def __call__(self, batch: Any, whole: int) -> "torch.Tensor": ...


@dataclass(frozen=True)
class Method:
    """One way to fit a base to a task; what is left out is what a language model does.

    block: its settings in the catalogue.
    build: the model to train, made of a base that it may change; None where nothing is trained.
    save, load: write a model into a folder; make it again of the base and that folder.
    objective: what to minimise, of the model, its block and the task.
    scores: of each label for each prompt; `scored` says in what they are measured.
    logits: for one text the tokens that the model reads, and its logits, shape (classes,).
    generates: its model continues a text, so that it can complete and chat.
    choices: by setting what a search tries, beside learning rates.
    passes: how often a step reads each of its tokens, of a block.
    """

    block: type[Adapter]
    build: Callable[["PreTrainedModel", Any, TaskData], "PreTrainedModel"] | None
    save: Callable[["PreTrainedModel", Path], None] = peft_folder.save
    load: Callable[["PreTrainedModel", Path], "PreTrainedModel"] = peft_folder.load
    objective: Callable[["PreTrainedModel", Any, TaskData], Objective] = answering.objective
    scores: Callable[..., list[dict[str, float]]] = answering.scores
    scored: str = answering.SCORED
    logits: Callable[..., tuple[list[int], "torch.Tensor"]] = answering.logits
    generates: bool = True
    choices: Mapping[str, tuple] = field(default_factory=dict)
    passes: Callable[[Any], int] = lambda block: 1
