"""Generated answers for evaluation: in batches, and yet those of each prompt alone.

Prompts of a batch are padded on the right, where causal attention never sees it; a new token's
position counts from its own prompt's end, and the padding between is masked. So nothing has to be
known of what stands before a prompt: the end of a document, a soft prompt, or a prefix of keys and
values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.adapters.encoding import (
    as_text,
    cut_prompt,
    ends_of,
    has_virtual_tokens,
    opening,
    room,
)
from components.padding import padded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS = 64  # of a batch


@dataclass(frozen=True)
class Decoding:
    """temperature 0 is greedy. stop: texts that end an answer, as the tokens do that the
    base states as its ends.
    """

    max_new_tokens: int
    temperature: float = 0.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generated:
    """text: up to its end. finished: it has one. truncated: the prompt lost its beginning."""

    text: str
    finished: bool
    truncated: bool


def generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    seeds: Sequence[int],
    decoding: Decoding,
) -> list[Generated]:
    """An answer to each prompt, which keeps as much of its end as leaves room for the answer.

    seeds: one for each prompt, so that what is sampled does not depend on the batch.

    Raises:
        ValueError: there is no room for an answer, or a prompt is empty behind a soft prompt.
    """
    import torch

    first = opening(model, tokenizer)
    left = room(model) - len(first) - decoding.max_new_tokens
    if left < 1:
        raise ValueError(
            f"max_new_tokens {decoding.max_new_tokens} leaves no room for a prompt in a context of "
            f"{room(model)} tokens"
        )
    texts = [as_text(tokenizer, prompt) for prompt in prompts]
    read = [[*first, *cut_prompt(ids, left)] for ids in texts]
    if not all(read):
        raise ValueError("a prompt is empty behind a soft prompt; give the template a word")
    found: list[Generated | None] = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda number: len(read[number]))
    for start in range(0, len(order), ROWS):
        part = order[start : start + ROWS]
        with torch.inference_mode():
            batch = _Batch(model, tokenizer, [read[number] for number in part], decoding)
            made = batch.run([seeds[number] for number in part])
        for number, (text, finished) in zip(part, made, strict=True):
            found[number] = Generated(text, finished, len(texts[number]) > left)
    return [answer for answer in found if answer is not None]


class _Batch:
    """One batch of token lists, and the answers to them so far."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        rows: list[list[int]],
        decoding: Decoding,
    ) -> None:
        self.model, self.tokenizer, self.decoding = model, tokenizer, decoding
        self.rows, self.ends = rows, ends_of(tokenizer, model.generation_config.eos_token_id)
        self.made: list[list[int]] = [[] for _ in rows]
        self.texts: dict[int, str] = {}  # of the rows that have come to their end

    def run(self, seeds: Sequence[int]) -> list[tuple[str, bool]]:
        """The text of each row, and whether it ended by itself."""
        import torch

        most, device = self.decoding.max_new_tokens, self.model.device
        draws = [_draws(seed, most) for seed in seeds] if self.decoding.temperature else []
        uniform = torch.stack(draws).to(device) if draws else None  # (rows, most)
        logits, cache, mask = self._read()
        # behind the prompt, and behind virtual tokens or a prefix, which are in the cache already
        ahead = cache.get_seq_length() - mask.shape[1]
        positions = ahead + mask.sum(1)  # (rows,)
        mask = torch.cat([mask.new_ones(len(mask), ahead), mask], 1)
        soft = has_virtual_tokens(self.model)  # PEFT would put them in again: go past
        inner = self.model.get_base_model() if soft else self.model
        for step in range(most):
            tokens = self._choose(logits, None if uniform is None else uniform[:, step])
            self._take(tokens.tolist())
            if len(self.texts) == len(self.rows) or step == most - 1:
                break
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            logits = inner(
                input_ids=tokens[:, None],
                attention_mask=mask,
                position_ids=positions[:, None] + step,
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
        return [
            (self.texts.get(row, self._text(ids)), row in self.texts)
            for row, ids in enumerate(self.made)
        ]

    def _read(self) -> tuple["torch.Tensor", object, "torch.Tensor"]:
        """The logits (rows, vocabulary) after each prompt, the cache, the mask (rows, longest)."""
        import torch

        ids, mask = padded(self.rows, self.tokenizer.pad_token_id)
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        longest = ids.shape[1]
        ends = mask.sum(1) - 1

        def last(_layer, arguments):
            (hidden,) = arguments  # (rows, virtual + longest, width)
            return (hidden[:, -longest:][torch.arange(len(ends), device=ends.device), ends],)

        hook = self.model.get_output_embeddings().register_forward_pre_hook(last)
        try:
            out = self.model(input_ids=ids, attention_mask=mask, use_cache=True)
        finally:
            hook.remove()
        return out.logits, out.past_key_values, mask

    def _choose(self, logits: "torch.Tensor", uniform: "torch.Tensor | None") -> "torch.Tensor":
        """The next token of each row: the likeliest, or drawn by its share of the distribution."""
        if uniform is None:
            return logits.argmax(-1)
        shares = (logits.double() / self.decoding.temperature).softmax(-1).cumsum(-1)
        places = (shares < uniform[:, None]).sum(-1)
        return places.clamp(max=logits.shape[-1] - 1)

    def _take(self, tokens: list[int]) -> None:
        """Add a token to each row that has not ended, and see whether it ends here."""
        for row, token in enumerate(tokens):
            if row in self.texts:
                continue
            if token in self.ends:
                self.texts[row] = self._text(self.made[row])
                continue
            self.made[row].append(token)
            if not self.decoding.stop:
                continue
            text = self._text(self.made[row])
            places = [place for stop in self.decoding.stop if (place := text.find(stop)) >= 0]
            if places:
                self.texts[row] = text[: min(places)]

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def _draws(seed: int, count: int) -> "torch.Tensor":
    import torch

    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
