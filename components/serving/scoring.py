"""Labels' probabilities by the engine: what `adapters.answering` computes, read in one batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from components.adapters import METHODS
from components.adapters.encoding import Pair, opened, pairs_of
from components.adapters.ensemble import shares_of_votes
from components.evaluation.classification import label_probabilities
from components.evaluation.subject import Subject
from components.inference.request import Reading, Request, TooLarge
from components.serving.engine import Caller, RequestError
from components.serving.gone import Left
from components.serving.shelf import Held, Version

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Served:
    """An adapter as `adapters.encoding` asks of a model: how long it reads, and what is before."""

    version: Version
    held: Held
    caller: Caller
    config: Any

    @property
    def peft_config(self) -> dict[str, "Before"]:
        count = self.held.adapter.members[0].count
        return {"default": Before(count)} if count else {}

    def reading(
        self, ids: Sequence[int], member: int, places: Sequence[int], finish: Any
    ) -> Request:
        """A reading of those tokens behind a member's virtual ones."""
        held = self.held
        return Request(
            ids,
            Reading(places, finish),
            held.roots[member],
            held.adapter.members[member],
            held.slot,
            self.caller.tenant,
        )

    def received(self, readings: Sequence[Request]) -> list[Any]:
        """The answers of readings, in their order; the first failure among them is raised.

        None of them is at work any more when this ends, however it does: what they read behind may
        be dropped then.

        Raises:
            ValueError: one needs more room than there is in all.
            Left: the caller has gone.
        """
        batcher, gone, begun = self.held.batcher, self.caller.gone, list[Request]()

        def let_go() -> None:
            for reading in begun:
                batcher.cancel(reading)

        try:
            for reading in readings:
                begun.append(batcher.submit(reading))
        except Exception:
            let_go()
            raise
        finally:
            with gone.calls(let_go):
                found = [reading.answers.get() for reading in begun]
        for answer in found:
            if isinstance(answer, Exception):
                raise answer
        if gone:
            raise Left
        return found


@dataclass(frozen=True)
class Before:
    """What stands before a text, as a PEFT config tells it."""

    num_virtual_tokens: int
    is_prompt_learning: bool = True


def classify(
    served: Served, tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]
) -> list[dict[str, float]]:
    """As `components.evaluation.classification.classify`.

    Raises:
        RequestError: a text needs more room than there is in all.
        ValueError: the adapter has no labels, or its template more variables than one.
    """
    described = served.version.described
    scores = _by_head if served.held.adapter.classifier is not None else _by_answers
    method = replace(METHODS[described["method"]], scores=scores)
    try:
        return label_probabilities(Subject(served, tokenizer, described, {}, method), texts)
    except TooLarge as error:
        raise RequestError(str(error), "input", "context_length_exceeded") from error


def _by_answers(
    served: Served,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    labels: Mapping[str, str],
) -> list[dict[str, float]]:
    """As `answering.scores`; of an ensemble the log of the share of votes."""
    pairs = [(prompt, label) for prompt in prompts for label in labels]
    read = pairs_of(served, tokenizer, [p for p, _ in pairs], [labels[label] for _, label in pairs])
    members, size = _means(served, read), len(labels)
    rows = [
        {label: [round(means[start + n], 6) for means in members] for n, label in enumerate(labels)}
        for start in range(0, len(pairs), size)
    ]
    if len(members) > 1:
        return shares_of_votes(rows, labels)
    return [{label: values[0] for label, values in row.items()} for row in rows]


def _means(served: Served, pairs: Sequence[Pair]) -> list[list[float]]:
    """By member, the mean log-probability of each pair's answer tokens, in nats.

    All members' readings are in line at once, so that they stand in one batch of the base.
    """
    reads: dict[tuple[int, ...], list[int]] = {}
    for number, (start, target) in enumerate(pairs):
        reads.setdefault((*start, *target[:-1]), []).append(number)
    members = range(len(served.held.adapter.members))
    asked = []
    for member in members:
        for ids, numbers in reads.items():
            first = min(len(pairs[number].start) for number in numbers) - 1
            targets = [(len(pairs[n].start) - 1 - first, pairs[n].target) for n in numbers]
            finish = partial(_logprobs, served.held.batcher.decoder, targets)
            asked.append(served.reading(ids, member, range(first, len(ids)), finish))
    found, size = served.received(asked), len(reads)
    means = [[0.0] * len(pairs) for _ in members]
    for member in members:
        of_member = found[member * size : (member + 1) * size]
        for numbers, values in zip(reads.values(), of_member, strict=True):
            for number, mean in zip(numbers, values, strict=True):
                means[member][number] = mean
    return means


def _logprobs(
    decoder: Any, targets: Sequence[tuple[int, Sequence[int]]], features: torch.Tensor
) -> list[float]:
    """The means over each target's tokens; targets: where they begin in `features`, and tokens."""
    logprobs = decoder.logits(features).log_softmax(-1)
    means = []
    for first, tokens in targets:
        places = torch.arange(first, first + len(tokens))
        means.append(float(logprobs[places, torch.tensor(tokens)].mean()))
    return means


def _by_head(
    served: Served,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    labels: Mapping[str, str],
) -> list[dict[str, float]]:
    """As `head.scores`."""
    rows = [opened(served, tokenizer, text) for text in prompts]
    classifier = served.held.adapter.classifier
    asked = [
        served.reading(ids, 0, [len(ids) - 1], lambda features: (features @ classifier)[0])
        for ids in rows
    ]
    found = [logits.log_softmax(-1).tolist() for logits in served.received(asked)]
    return [
        {label: round(row[n], 6) for n, label in enumerate(served.version.described["labels"])}
        for row in found
    ]
