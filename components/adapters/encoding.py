"""Prompts with answers as padded batches: the same for training, evaluation and serving."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from components.padding import padded

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase


BREAK = "\n"  # joined to no other text in the vocabularies of SentencePiece, which learn from lines


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


def has_virtual_tokens(model: "PreTrainedModel") -> bool:
    """Whether a soft prompt, or a prefix of keys and values, stands before what `model` reads."""
    config = getattr(model, "peft_config", {}).get("default")
    return bool(getattr(config, "is_prompt_learning", False))


def is_prefix(model: "PreTrainedModel") -> bool:
    """Whether those are keys and values alone, from which no token can be predicted."""
    return has_virtual_tokens(model) and model.active_peft_config.peft_type == "PREFIX_TUNING"


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
    return [] if has_virtual_tokens(model) else [tokenizer.bos_token_id]


def ends_of(
    tokenizer: "PreTrainedTokenizerBase", stated: int | Sequence[int] | None
) -> frozenset[int]:
    """The tokens that end an answer: the tokenizer's end of a text, and those that a base states.

    Chat models end a turn with another token than a document, as Llama 3's do, or with either.

    stated: `eos_token_id` of a generation config.
    """
    listed = stated if isinstance(stated, Sequence) else [stated]
    return frozenset({tokenizer.eos_token_id, *listed} - {None})


def as_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The tokens of `text`, in which nothing is a command.

    `<|assistant|>` in a review is thirteen letters; as the control token it would forge a turn.
    """
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def as_answer(tokenizer: "PreTrainedTokenizerBase", prompt: str, answer: str) -> list[int]:
    """The tokens of `answer` behind `prompt`, whatever that is: only an empty one has a say."""
    return _answers_of(tokenizer, [answer])[answer] if prompt else as_text(tokenizer, answer)


def cut_prompt(ids: list[int], size: int) -> list[int]:
    """The last `size` tokens of a prompt: one too long loses its beginning, the shots first."""
    return ids[max(0, len(ids) - size) :]


def opened(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", text: str, beside: int = 0
) -> list[int]:
    """The tokens of `text` behind its opening, as many of its end as the model has room for.

    beside: tokens for which room is left.
    """
    first = opening(model, tokenizer)
    left = room(model) - len(first) - beside
    return [*first, *cut_prompt(as_text(tokenizer, text), left)]


def pairs_of(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    answers: Sequence[str],
    free_text: bool = False,
) -> list[Pair]:
    """The tokens before each answer, and the answer's, as many as the model has room for.

    Prompt and answer are encoded apart, so that an answer's tokens do not depend on the prompt; see
    `as_answer`.
    free_text: the answer is no label's: the end of the document follows it, and one too long loses
    its own end, after the prompt has been cut to half of the room.

    Raises:
        ValueError: a label's answer is longer than the model has room for, or a prompt is empty
            behind a soft prompt.
    """
    first = opening(model, tokenizer)
    left = room(model) - len(first)
    alone = [answer for prompt, answer in zip(prompts, answers, strict=True) if not prompt]
    tokens = _tokens_of(tokenizer, dict.fromkeys([*prompts, *alone]))
    behind = _answers_of(tokenizer, dict.fromkeys(answers))
    pairs = []
    for prompt, answer in zip(prompts, answers, strict=True):
        start, target = tokens[prompt], (behind if prompt else tokens)[answer]
        if free_text:
            target = [*target, tokenizer.eos_token_id][: left - min(len(start), left // 2)]
        if left - len(target) < (1 if prompt else 0):
            raise ValueError(
                f"the answer {answer!r} leaves no room in a context of {room(model)} tokens"
            )
        known = (*first, *cut_prompt(start, left - len(target)))
        if not known:  # `places` has no number for a virtual token
            raise ValueError(
                f"the prompt before the answer {answer!r} is empty: an answer behind a soft prompt "
                "needs a prompt of one token at least; give the template a word of its own"
            )
        pairs.append(Pair(known, tuple(target)))
    return pairs


def _tokens_of(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> dict[str, list[int]]:
    """`as_text` of each text, encoded together: many times as fast as one by one."""
    known = list(texts)
    if not known:
        return {}
    ids = tokenizer(known, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return dict(zip(known, ids, strict=True))


def _answers_of(
    tokenizer: "PreTrainedTokenizerBase", answers: Iterable[str]
) -> dict[str, list[int]]:
    """The tokens of each of `answers` where text stands before it.

    Those of the answer alone, but for a tokenizer that puts a space before whatever it reads, as
    SentencePiece does for Llama 2 and Mistral: behind a line break that space is not the answer's.
    """
    texts = list(answers)
    alone = _tokens_of(tokenizer, texts)
    if "".join(tokenizer.convert_ids_to_tokens(as_text(tokenizer, "a"))) == "a":
        return alone
    first = as_text(tokenizer, BREAK)
    behind = _tokens_of(tokenizer, [BREAK + text for text in texts])
    cut = {text: behind[BREAK + text] for text in texts}
    return {
        text: ids[len(first) :] if ids[: len(first)] == first else alone[text]
        for text, ids in cut.items()
    }


def overflows(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str,
    answer: str,
    free_text: bool,
) -> bool:
    """Whether `pairs_of` has to cut. A token has a byte or more, but for a space put before the
    prompt, so most texts need no count.
    """
    left = room(model) - len(opening(model, tokenizer)) - free_text
    if len(prompt.encode()) + len(answer.encode()) < left:
        return False
    return len(as_text(tokenizer, prompt)) + len(as_answer(tokenizer, prompt, answer)) > left


def encode(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    answers: Sequence[str],
    free_text: bool = False,
) -> Batch:
    """Encode each prompt for `model`, with its answer behind it. As `pairs_of`, in one batch."""
    return pack(model, tokenizer, pairs_of(model, tokenizer, prompts, answers, free_text))


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
    input_ids, attention_mask = padded(list(rows), tokenizer.pad_token_id)
    longest = input_ids.shape[1]
    flat = torch.tensor([row * longest + position for row, position in places])
    tensors = (input_ids, attention_mask, flat, torch.tensor(targets))
    lengths = [len(pair.target) for pair in pairs]
    return Batch(*(tensor.to(model.device) for tensor in tensors), lengths)


def encode_prompts(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Token ids and attention mask of prompts alone, padded at the right, each (rows, longest).

    A prompt that is too long loses its beginning.
    """
    rows = [opened(model, tokenizer, prompt) for prompt in prompts]
    input_ids, attention_mask = padded(rows, tokenizer.pad_token_id)
    return input_ids.to(model.device), attention_mask.to(model.device)


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
        (hidden,) = arguments  # (rows, virtual + longest, width); key/value prefixes are not in it
        return (hidden[:, -longest:].flatten(0, 1)[batch.places],)

    hook = model.get_output_embeddings().register_forward_pre_hook(chosen)
    given = {"attention_mask": batch.attention_mask, "use_cache": False} | read
    try:
        logits = model(input_ids=batch.input_ids, **given).logits
    finally:
        hook.remove()
    return logits.float()
