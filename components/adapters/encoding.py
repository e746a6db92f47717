"""Prompts with answers as padded batches: the same for training, evaluation and serving."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase


class Pair(NamedTuple):
    """The tokens of a prompt, opening included, and of the answer behind it."""

    start: tuple[int, ...]
    target: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences, and which of their positions predict tokens of an answer.

    Pairs of prompt and answer that read the same tokens share a row: where each label is one
    token, all labels of a prompt cost one forward pass.
    """

    input_ids: "torch.Tensor"  # (rows, longest)
    attention_mask: "torch.Tensor"  # (rows, longest)
    places: "torch.Tensor"  # (answer tokens,): row x longest + position
    targets: "torch.Tensor"  # (answer tokens,)
    lengths: list[int]  # answer tokens of each pair, in the pairs' order


def room(model: "PreTrainedModel") -> int:
    """How many tokens a sequence may have, beside an adapter's virtual tokens."""
    return model.config.max_position_embeddings - virtual_tokens(model)


def virtual_tokens(model: "PreTrainedModel") -> int:
    """How many places an adapter's virtual tokens take before every sequence."""
    config = getattr(model, "peft_config", {}).get("default")
    return getattr(config, "num_virtual_tokens", None) or 0


def opening(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The tokens before every prompt: a document begins with the end of another.

    None behind virtual tokens, which begin with that themselves. A base has learned that nothing
    before an end of document matters to what follows it, and would not hear a soft prompt there.
    """
    config = getattr(model, "peft_config", {}).get("default")
    return [] if getattr(config, "is_prompt_learning", False) else [tokenizer.bos_token_id]


def as_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The tokens of `text`, in which nothing is a command.

    `<|assistant|>` in a review is thirteen letters; as the control token it would forge a turn.
    """
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def encode(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    answers: Sequence[str],
) -> Batch:
    """Encode each prompt for `model`, with its answer behind it. Raises what `pairs_of` raises."""
    return pack(model, tokenizer, pairs_of(model, tokenizer, prompts, answers))


def pairs_of(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    answers: Sequence[str],
) -> list[Pair]:
    """The tokens of each prompt for `model`, and of the answer behind it.

    Prompt and answer are encoded apart, so that an answer's tokens do not depend on the prompt. A
    prompt that is too long loses its beginning.

    Raises:
        ValueError: an answer alone is longer than the model has room for, or a prompt is empty
            behind a soft prompt.
    """
    limit, first = room(model), opening(model, tokenizer)
    tokens = _tokens_of(tokenizer, dict.fromkeys([*prompts, *answers]))
    pairs = []
    for prompt, answer in zip(prompts, answers, strict=True):
        target, known = tokens[answer], tokens[prompt]
        keep = limit - len(target) - len(first)
        if keep < 1:
            raise ValueError(f"the answer {answer!r} leaves no room in a context of {limit} tokens")
        if not first and not known:  # `places` has no number for a virtual token
            raise ValueError(
                f"the prompt before the answer {answer!r} is empty: an answer behind a soft prompt "
                "needs a prompt of one token at least; give the template a word of its own"
            )
        pairs.append(Pair((*first, *known[-keep:]), tuple(target)))
    return pairs


def _tokens_of(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> dict[str, list[int]]:
    """`as_text` of each text, encoded together: many times as fast as one by one."""
    known = list(texts)
    if not known:
        return {}
    ids = tokenizer(known, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return dict(zip(known, ids, strict=True))


def pack(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    pairs: Sequence[Pair],
    skip: int = 0,
) -> Batch:
    """One batch of `pairs`, without the `skip` first tokens of each, which `model` has read."""
    import torch

    rows: dict[tuple[int, ...], int] = {}
    places: list[tuple[int, int]] = []
    targets: list[int] = []
    for start, target in pairs:
        read = (*start[skip:], *target[:-1])
        row = rows.setdefault(read, len(rows))
        places += [(row, len(start) - skip - 1 + n) for n in range(len(target))]
        targets += target
    longest = max(map(len, rows))
    input_ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    for read, row in rows.items():
        input_ids[row, : len(read)] = torch.tensor(read)
        attention_mask[row, : len(read)] = 1
    flat = torch.tensor([row * longest + position for row, position in places])
    tensors = (input_ids, attention_mask, flat, torch.tensor(targets))
    lengths = [len(pair.target) for pair in pairs]
    return Batch(*(tensor.to(model.device) for tensor in tensors), lengths)


def answer_losses(model: "PreTrainedModel", batch: Batch) -> "torch.Tensor":
    """-log p of each token of the answers, in nats. Shape (answer tokens,)."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(answer_logits(model, batch), batch.targets, reduction="none")


def answer_logits(
    model: "PreTrainedModel", batch: Batch, **read: "torch.Tensor | Cache | bool"
) -> "torch.Tensor":
    """What `model` says in place of each token of the answers. Shape (answer tokens, vocabulary).

    Only these positions reach the output layer, which is most of a small model's work.

    read: for a model that has read tokens before the batch's: its `past_key_values`, an
    `attention_mask` over them and the batch's, and `use_cache`.
    """
    longest = batch.input_ids.shape[1]

    def chosen(_layer, arguments):
        (hidden,) = arguments  # (rows, virtual + longest, width)
        return (hidden[:, -longest:].flatten(0, 1)[batch.places],)

    hook = model.get_output_embeddings().register_forward_pre_hook(chosen)
    given = {"attention_mask": batch.attention_mask, "use_cache": False} | read
    try:
        logits = model(input_ids=batch.input_ids, **given).logits
    finally:
        hook.remove()
    return logits.float()
