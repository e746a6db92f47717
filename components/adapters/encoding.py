"""Prompts with answers as padded batches: the same for training, evaluation and serving."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100  # cross entropy's mark for "no target here"


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences, all shapes (rows, longest)."""

    input_ids: "torch.Tensor"
    attention_mask: "torch.Tensor"
    labels: "torch.Tensor"  # the answer's tokens in place, IGNORED elsewhere


def room(model: "PreTrainedModel") -> int:
    """How many tokens a sequence may have, beside an adapter's virtual tokens."""
    config = getattr(model, "peft_config", {}).get("default")
    virtual = getattr(config, "num_virtual_tokens", None) or 0
    return model.config.max_position_embeddings - virtual


def encode(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str], answers: Sequence[str], limit: int
) -> Batch:
    """Encode each prompt with its answer behind it; a document begins with the end of another.

    Prompt and answer are encoded apart, so that an answer's tokens do not depend on the prompt. A
    prompt that is too long loses its beginning.

    Raises:
        ValueError: an answer alone is longer than `limit`.
    """
    import torch

    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        target = tokenizer(answer, add_special_tokens=False)["input_ids"]
        keep = limit - len(target) - 1
        if keep < 1:
            raise ValueError(f"the answer {answer!r} leaves no room in a context of {limit} tokens")
        start = tokenizer(prompt, add_special_tokens=False)["input_ids"][-keep:]
        rows.append(([tokenizer.bos_token_id, *start], target))
    longest = max(len(start) + len(target) for start, target in rows)
    shape = (len(rows), longest)
    input_ids = torch.full(shape, tokenizer.pad_token_id)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    for row, (start, target) in enumerate(rows):
        end = len(start) + len(target)
        input_ids[row, :end] = torch.tensor([*start, *target])
        attention_mask[row, :end] = 1
        labels[row, len(start) : end] = torch.tensor(target)
    return Batch(input_ids, attention_mask, labels)


def token_losses(model: "PreTrainedModel", batch: Batch) -> "torch.Tensor":
    """-log p of each token of the answers, 0 elsewhere, in nats. Shape (rows, longest - 1)."""
    from torch.nn.functional import cross_entropy

    logits = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
    ).logits
    logits = logits[:, -batch.labels.shape[1] :]  # virtual tokens come first: (rows, longest, V)
    targets = batch.labels[:, 1:]
    losses = cross_entropy(
        logits[:, :-1].flatten(0, 1).float(),
        targets.flatten(),
        ignore_index=IGNORED,
        reduction="none",
    )
    return losses.view(targets.shape)
