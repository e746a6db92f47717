"""How likely answers are after prompts: many at once, and what prompts share read once.

Prompts of one template begin alike: with its worked examples, its first words, or virtual tokens.
Where that is much, `model` reads it once and keeps its keys and values for all rows. Rows of like
length stand in one batch.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from components.adapters.encoding import (
    Batch,
    Pair,
    answer_logits,
    pack,
    pairs_of,
    room,
    virtual_tokens,
)

if TYPE_CHECKING:
    import torch
    from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

ROWS = 64  # of a batch, at most
BATCH_TOKENS = 8192  # read by all rows of a batch, at most
PAST_BYTES = 1 << 28  # of the shared keys and values, copied for all rows of a batch, at most
WORTH_SHARING = 8  # tokens; a cache of fewer costs more than it saves


class Scored(NamedTuple):
    """Of each token of an answer its log-probability, in nats; whether each is the likeliest."""

    logprobs: list[float]
    greedy: bool


def score_answers(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    answers: Sequence[str],
) -> list[Scored]:
    """How likely each answer is after the prompt beside it.

    Raises:
        ValueError: as `encoding.pairs_of` does.
    """
    return score_pairs(model, tokenizer, pairs_of(model, tokenizer, prompts, answers))


def score_pairs(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", pairs: Sequence[Pair]
) -> list[Scored]:
    """How likely each pair's target is after its start, each being read from its own beginning.

    The same as reading each pair alone, but for float32 noise: padding stands behind, where causal
    attention never sees it.
    """
    import torch

    found: list[Scored | None] = [None] * len(pairs)
    with torch.inference_mode():
        for past, numbers in _shared_and_not(model, pairs):
            skip, rows = (past.tokens, past.most_rows()) if past else (0, ROWS)
            for part in _batches([pairs[n] for n in numbers], skip, rows):
                chosen = [numbers[place] for place in part]
                scored = _score(model, tokenizer, [pairs[n] for n in chosen], past)
                for number, each in zip(chosen, scored, strict=True):
                    found[number] = each
    assert None not in found
    return found


class _Past(NamedTuple):
    """What a model has read before a row: its keys and values, virtual tokens included."""

    tokens: int  # of the rows' own
    layers: list[tuple["torch.Tensor", "torch.Tensor"]]  # each (1, heads, virtual + tokens, size)

    def most_rows(self) -> int:
        """How many rows may continue it at once."""
        size = sum(part.nbytes for layer in self.layers for part in layer)
        return max(1, min(ROWS, PAST_BYTES // size))

    def for_rows(self, rows: int) -> "DynamicCache":
        """A cache that `rows` rows continue; the copies are views until something is added."""
        from transformers import DynamicCache

        cache = DynamicCache(self.layers)
        for layer in cache.layers:
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
        return cache


def _shared_and_not(
    model: "PreTrainedModel", pairs: Sequence[Pair]
) -> Iterator[tuple[_Past | None, list[int]]]:
    """The numbers of the pairs that continue a past, and of those read from their beginning.

    A prompt that fills the context may have lost its beginning, and is read alone.
    """
    limit = room(model)
    whole = [n for n, (start, target) in enumerate(pairs) if len(start) + len(target) < limit]
    past = _read(model, _common([pairs[n].start for n in whole])) if len(whole) > 1 else None
    if past is None:
        yield None, list(range(len(pairs)))
        return
    yield past, whole
    if rest := sorted(set(range(len(pairs))) - set(whole)):
        yield None, rest


def _common(starts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all of `starts` begin with; a token of the shortest is left to read."""
    low, high = min(starts), max(starts)
    same = (n for n, (one, other) in enumerate(zip(low, high, strict=False)) if one != other)
    return low[: min(next(same, len(low)), min(map(len, starts)) - 1)]


def _read(model: "PreTrainedModel", first: Sequence[int]) -> _Past | None:
    """The past of `first`; None where it is short, or the model keeps more than keys and values."""
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    if virtual_tokens(model) + len(first) < WORTH_SHARING:
        return None
    inner, cache = _behind_virtual_tokens(model)
    if first:
        ids = torch.tensor([first], dtype=torch.long, device=model.device)  # (1, tokens)
        out = inner(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = getattr(out, "past_key_values", None)
    if not isinstance(cache, DynamicCache) or {type(e) for e in cache.layers} != {DynamicLayer}:
        return None
    return _Past(len(first), [(layer.keys, layer.values) for layer in cache.layers])


def _behind_virtual_tokens(model: "PreTrainedModel") -> tuple["PreTrainedModel", "Cache | None"]:
    """What reads on, and what it has read: PEFT's model would put virtual tokens in every time."""
    from transformers import Cache

    if not virtual_tokens(model):
        return model, None
    inner, prompt = model.get_base_model(), model.get_prompt(batch_size=1)
    if isinstance(prompt, Cache):  # of prefix tuning: keys and values
        return inner, prompt
    return inner, inner(inputs_embeds=prompt, use_cache=True).past_key_values


def _batches(pairs: Sequence[Pair], skip: int, rows: int) -> Iterator[list[int]]:
    """The places of `pairs` in batches of `rows` at most, the longest first: memory is asked for
    once. Pairs that read the same tokens stand together, for they share a row.
    """
    reads = [(*start[skip:], *target[:-1]) for start, target in pairs]
    order = sorted(range(len(pairs)), key=lambda place: (-len(reads[place]), reads[place]))
    part: list[int] = []
    held: set[tuple[int, ...]] = set()
    for place in order:
        longest = len(reads[part[0]] if part else reads[place])
        full = len(held) >= max(1, min(rows, BATCH_TOKENS // longest))
        if full and reads[place] not in held:
            yield part
            part, held = [], set()
        part.append(place)
        held.add(reads[place])
    if part:
        yield part


def _score(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    pairs: Sequence[Pair],
    past: _Past | None,
) -> list[Scored]:

    batch = pack(model, tokenizer, pairs, past.tokens if past else 0)
    logits = _continue(model, batch, past) if past else answer_logits(model, batch)
    of_target = logits.gather(1, batch.targets[:, None])[:, 0]
    logprobs = (of_target - logits.logsumexp(1)).split(batch.lengths)
    likeliest = (logits.argmax(1) == batch.targets).split(batch.lengths)
    return [
        Scored(values.tolist(), bool(hit.all()))
        for values, hit in zip(logprobs, likeliest, strict=True)
    ]


def _continue(model: "PreTrainedModel", batch: Batch, past: _Past) -> "torch.Tensor":
    """The answers' logits of rows that stand behind `past`. Shape (answer tokens, vocabulary)."""
    import torch

    rows = len(batch.input_ids)
    cache = past.for_rows(rows)
    before = batch.attention_mask.new_ones((rows, cache.get_seq_length()))
    mask = torch.cat([before, batch.attention_mask], 1)  # (rows, past + longest)
    inner = model.get_base_model() if virtual_tokens(model) else model
    read = {"attention_mask": mask, "past_key_values": cache, "use_cache": True}
    return answer_logits(inner, batch, **read)
