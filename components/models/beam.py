"""Decoding: the best next token at a time, or the best few sentences so far. Batched.

Every sentence begins with the token `end` and is over with the next one.
"""

from typing import Protocol

import torch
from torch import Tensor

State = tuple[Tensor, ...]  # each with sentences first


class Stepwise(Protocol):
    """A model that writes token by token."""

    def start(self, source: Tensor) -> State:
        """What decoding of `source`, (batch, source), begins with."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The last token of each sentence, (rows,) -> logits of the next, (rows, vocabulary)."""


@torch.no_grad()
def greedy(model: Stepwise, source: Tensor, end: int, longest: int) -> list[list[int]]:
    """For each sentence of `source` the tokens that are most probable one by one.

    longest: tokens of a translation at most, its end counted in.
    """
    state = model.start(source)
    tokens = source.new_full((len(source), 1), end)
    done = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    for _ in range(longest):
        logits, state = model.step(tokens[:, -1], state)
        chosen = logits.argmax(dim=-1).masked_fill(done, end)
        tokens = torch.cat([tokens, chosen.unsqueeze(1)], dim=1)
        done |= chosen == end
        if done.all():
            break
    return [_until(row, end) for row in tokens[:, 1:].tolist()]


def _until(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens


def normaliser(length: int, penalty: float) -> float:
    """What a log-probability of `length` tokens is divided by (Wu et al. 2016, equation 14).

    Without it (penalty 0) short sentences win: each further token costs probability.
    """
    return ((5 + length) / 6) ** penalty


@torch.no_grad()
def beam_search(
    model: Stepwise, source: Tensor, end: int, longest: int, width: int, penalty: float
) -> list[list[int]]:
    """For each sentence of `source` the best that is found with `width` beginnings at a time.

    Best: the highest log-probability, over `normaliser`. A search ends when no beginning can
    still become better than the best whole sentence, so nothing is lost by stopping.
    """
    search = _Search(model, source, end, longest, width, penalty)
    for length in range(1, longest + 1):
        search.extend(length)
        if search.over():
            break
    return search.written()


class _Search:
    """The beginnings of each sentence, and the best whole one."""

    def __init__(
        self,
        model: Stepwise,
        source: Tensor,
        end: int,
        longest: int,
        width: int,
        penalty: float,
    ) -> None:
        self.model, self.end, self.width = model, end, width
        self.longest, self.penalty = longest, penalty
        batch, device = len(source), source.device
        self.state = tuple(part.repeat_interleave(width, dim=0) for part in model.start(source))
        self.tokens = source.new_full((batch * width, 1), end)
        self.scores = torch.full((batch, width), -torch.inf, device=device)
        self.scores[:, 0] = 0.0  # all beginnings are the same yet: one is enough
        self.best = torch.full((batch,), -torch.inf, device=device)
        self.whole: list[list[int]] = [[] for _ in range(batch)]
        self.first = torch.arange(batch, device=device).unsqueeze(1) * width  # row of a sentence

    def extend(self, length: int) -> None:
        """One token more, the `length`th."""
        logits, state = self.model.step(self.tokens[:, -1], self.state)
        nats = logits.float().log_softmax(dim=-1).unflatten(0, (-1, self.width))
        totals = (self.scores.unsqueeze(-1) + nats).flatten(1)  # (batch, width x vocabulary)
        # each beginning has one end, so of twice `width` at least `width` go on
        scores, places = totals.topk(2 * self.width)  # (batch, 2 width)
        origins = self.first + places // logits.shape[-1]  # rows of tokens and state
        tokens = places % logits.shape[-1]
        ended = tokens == self.end
        self._finish(scores.masked_fill(~ended, -torch.inf), origins, length)
        self.scores, kept = scores.masked_fill(ended, -torch.inf).topk(self.width)
        rows = origins.gather(1, kept).flatten()
        added = tokens.gather(1, kept).flatten().unsqueeze(1)
        self.tokens = torch.cat([self.tokens[rows], added], dim=1)
        self.state = tuple(part[rows] for part in state)

    def _finish(self, scores: Tensor, origins: Tensor, length: int) -> None:
        """Keep whole sentences that are better than the best so far. scores, origins: (batch, n)"""
        found, place = (scores / normaliser(length, self.penalty)).max(dim=1)
        for number in (found > self.best).nonzero().flatten().tolist():
            self.best[number] = found[number]
            self.whole[number] = self.tokens[origins[number, place[number]], 1:].tolist()

    def over(self) -> bool:
        """Whether no beginning can win: its log-probability only falls."""
        most = self.scores[:, 0] / normaliser(self.longest, self.penalty)
        return bool((most <= self.best).all())

    def written(self) -> list[list[int]]:
        """The best sentences; a beginning where it is better and `longest` cut it off."""
        self._finish(self.scores, self.first + torch.arange(self.width), self.longest)
        return self.whole
