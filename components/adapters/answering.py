"""A language model at a task: it learns the answers' tokens, and is judged by their likelihood."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from components.adapters.encoding import encode, opened

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
    from components.adapters.likelihood import score_answers

    pairs = [(prompt, label) for prompt in prompts for label in labels]
    answers = [labels[label] for _, label in pairs]
    scored = score_answers(model, tokenizer, [prompt for prompt, _ in pairs], answers)
    means = [round(sum(each.logprobs) / len(each.logprobs), 6) for each in scored]
    size = len(labels)
    return [
        dict(zip(labels, means[start : start + size], strict=True))
        for start in range(0, len(means), size)
    ]


def scores_of_many(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    labels: Mapping[str, str],
    losses_of: Callable[["PreTrainedModel", "Batch"], "torch.Tensor"],
) -> list[dict[str, list[float]]]:
    """As `scores`, but a list for each label: of the rows that `losses_of` gives.

    losses_of: -log p of the answers' tokens, shape (rows, answer tokens).
    """
    import torch

    found: list[dict[str, list[float]]] = [{} for _ in prompts]
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

    ids = opened(model, tokenizer, text)
    tokens = torch.tensor([ids], device=model.device)
    with torch.no_grad():
        out = model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    return ids, out.logits[0, -1]
