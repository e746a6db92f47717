"""A language model at a task: it learns the answers' tokens, and is judged by their likelihood."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.adapters.encoding import answer_losses, as_text, encode, opening, room

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from components.adapters.answer_loss import AnswerLoss
    from components.adapters.encoding import Batch
    from components.adapters.settings import Trained
    from components.adapters.task_data import TaskData

ROWS = 64  # of a batch
SCORED = "mean log-probability per answer token"


def objective(model: "PreTrainedModel", block: "Trained", data: "TaskData") -> "AnswerLoss":
    """-log p of the answers' tokens, whatever `block` says. See `method.Method`."""
    from components.adapters.answer_loss import AnswerLoss

    return AnswerLoss(model, data)


def scores(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    labels: Mapping[str, str],
) -> list[dict[str, float]]:
    """The mean log-probability per token of each label's answer, in nats, for each prompt.

    The mean, so that a label of more tokens is at no disadvantage (Brown et al. 2020, section 2.4).
    """
    found = each_score(model, tokenizer, prompts, labels, answer_losses)
    return [{label: round(value, 6) for label, value in row.items()} for row in found]


def each_score(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    labels: Mapping[str, str],
    losses_of: Callable[["PreTrainedModel", "Batch"], "torch.Tensor"],
) -> list[dict[str, Any]]:
    """`scores` before they are rounded: a number, or a list where `losses_of` gives many rows.

    losses_of: -log p of the answers' tokens, shape (answer tokens,) or (rows, answer tokens).
    """
    import torch

    found: list[dict[str, Any]] = [{} for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    with torch.no_grad():
        for start in range(0, len(order), ROWS):
            pairs = [(n, label) for n in order[start : start + ROWS] for label in labels]
            texts, answers = [prompts[n] for n, _ in pairs], [labels[label] for _, label in pairs]
            batch = encode(model, tokenizer, texts, answers)
            losses = losses_of(model, batch).split(batch.lengths, -1)
            for (number, label), each in zip(pairs, losses, strict=True):
                found[number][label] = (-each.mean(-1)).tolist()
    return found


def logits(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", text: str
) -> tuple[list[int], "torch.Tensor"]:
    """The tokens read for `text`, whose beginning is lost where it is too long, and the logits of
    the token after them, shape (vocabulary,).
    """
    import torch

    first = opening(model, tokenizer)
    ids = [*first, *as_text(tokenizer, text)[len(first) - room(model) :]]
    tokens = torch.tensor([ids])
    with torch.no_grad():
        out = model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    return ids, out.logits[0, -1]
