"""One generated choice as text: stop strings, pieces for streaming, log-probabilities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.serving.engine import NOBODY, Caller, Engine, Sampling, Token

UNFINISHED = "\ufffd"  # what decoding gives for the first bytes of a character


@dataclass
class Choice:
    """What was generated so far. text: without what a stop string cut off.

    offsets: where the text of each token begins; tokens that share a character begin with it.
    """

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    finish_reason: str = "length"


def generate(
    engine: Engine,
    model: str,
    ids: Sequence[int],
    sampling: Sampling,
    stop: Sequence[str],
    choice: Choice,
    caller: Caller = NOBODY,
) -> Iterator[str]:
    """New pieces of text as they become certain; `choice` is filled, and whole after the last.

    What could be the beginning of a stop string, or of a character, is held back.
    """
    made: list[int] = []
    told = 0
    tokens = engine.generate(model, ids, sampling, caller)
    for token in tokens:
        made.append(token.id)
        text = engine.decode(made)
        choice.tokens.append(token)
        choice.offsets.append(_begin(choice.text, text))
        cut = min((place for s in stop if (place := text.find(s)) >= 0), default=-1)
        if cut >= 0:
            tokens.close()
            choice.text, choice.finish_reason = text[:cut], "stop"
            yield choice.text[told:]
            return
        choice.text = text
        safe = len(text) - _held_back(text, stop)
        if safe > told:
            yield text[told:safe]
            told = safe
    if len(made) < sampling.max_tokens:
        choice.finish_reason = "stop"
    yield choice.text[told:]


def _begin(before: str, after: str) -> int:
    """Where in `after` the token begins that made it of `before`; maybe in a character of both."""
    finished = after.removesuffix(UNFINISHED)
    return len(before if finished.startswith(before) else before.removesuffix(UNFINISHED))


def _held_back(text: str, stop: Sequence[str]) -> int:
    if text.endswith(UNFINISHED):
        return 1
    lengths = (
        size
        for s in stop
        for size in range(min(len(s) - 1, len(text)), 0, -1)
        if text.endswith(s[:size])
    )
    return max(lengths, default=0)


def completion_logprobs(engine: Engine, choice: Choice, first: int = 0) -> dict[str, Any]:
    """OpenAI's form for completions, of the tokens from number `first` on."""
    tokens = choice.tokens[first:]
    return {
        "tokens": [engine.decode([token.id]) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [
            {engine.decode([i]): value for i, value in token.alternatives.items()}
            for token in tokens
        ],
        "text_offset": choice.offsets[first:],
    }


def chat_logprobs(engine: Engine, choice: Choice, first: int = 0) -> dict[str, Any]:
    """OpenAI's form for chat, of the tokens from number `first` on."""

    def entry(number: int, logprob: float) -> dict[str, Any]:
        piece = engine.decode([number])
        return {"token": piece, "logprob": logprob, "bytes": list(piece.encode())}

    content = [
        entry(token.id, token.logprob)
        | {"top_logprobs": [entry(i, value) for i, value in token.alternatives.items()]}
        for token in choice.tokens[first:]
    ]
    return {"content": content, "refusal": None}
