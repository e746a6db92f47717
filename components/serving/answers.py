"""One generated choice as text: stop strings, pieces for streaming, log-probabilities."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.serving.engine import Engine, Sampling, Token

UNREADABLE = "\ufffd"  # what bytes are decoded to that are no character


@dataclass
class Choice:
    """What was generated so far. text: without what a stop string cut off.

    offsets: where the text of each token begins; tokens that share a character begin with it.
    before: the token that each one's text stands behind.
    """

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    before: list[int | None] = field(default_factory=list)
    finish_reason: str = "length"


def generate(
    engine: Engine,
    tokens: Iterator[Token],
    sampling: Sampling,
    stop: Sequence[str],
    choice: Choice,
    before: int | None = None,
) -> Iterator[str]:
    """New pieces of text as they become certain; `choice` is filled, and whole after the last.

    What could be the beginning of a stop string, or of a character, is held back. before: the last
    token of the prompt.
    """
    characters = codecs.getincrementaldecoder("utf-8")("replace")
    told = 0
    for token in tokens:
        piece, known = engine.piece(token.id, before), len(choice.text)
        begun, _ = characters.getstate()
        new = characters.decode(piece)
        choice.tokens.append(token)
        choice.before.append(before)
        choice.offsets.append(known + _is_lost(begun, piece, new))
        before = token.id if piece else before
        if _stops(choice, new, stop):
            tokens.close()
            yield choice.text[told:]
            return
        safe = len(choice.text) - _held_back(choice.text, stop)
        if safe > told:
            yield choice.text[told:safe]
            told = safe
    if len(choice.tokens) < sampling.max_tokens:
        choice.finish_reason = "stop"
    _stops(choice, characters.decode(b"", final=True), stop)
    yield choice.text[told:]


def _stops(choice: Choice, new: str, stop: Sequence[str]) -> bool:
    """Add to a text, up to a stop string; whether there was one."""
    known = len(choice.text)
    choice.text += new
    ends = (choice.text.find(s, max(0, known - len(s) + 1)) for s in stop)
    cut = min((place for place in ends if place >= 0), default=-1)
    if cut < 0:
        return False
    choice.text, choice.finish_reason = choice.text[:cut], "stop"
    return True


def _is_lost(begun: bytes, piece: bytes, new: str) -> bool:
    """Whether the bytes that were `begun` were those of no character, as `piece` shows."""
    whole = (begun + piece).startswith(UNREADABLE.encode())  # it is a character too
    return bool(begun) and new.startswith(UNREADABLE) and not whole


def _held_back(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end could be the beginning of a stop string."""
    return max((_begun(text, s) for s in stop), default=0)


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of `text` could be the beginning of `stop`. With each token
    this is asked, so only places of its first character are looked at.
    """
    place = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while place >= 0 and not stop.startswith(text[place:]):
        place = text.find(stop[0], place + 1)
    return len(text) - place if place >= 0 else 0


def _named(engine: Engine, number: int, before: int | None) -> tuple[str, bytes]:
    """A token as log-probabilities name it, and its bytes. A control token has its own name, and a
    part of a character the one that OpenAI gave it: else many tokens would have the same.
    """
    piece = engine.piece(number, before) or engine.word(number).encode()
    try:
        return piece.decode(), piece
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece), piece


def completion_logprobs(
    engine: Engine, choice: Choice, first: int = 0, end: int | None = None
) -> dict[str, Any]:
    """OpenAI's form for completions, of the tokens from number `first` to before `end`."""
    tokens, names, likely = choice.tokens[first:end], [], []
    for token, before in zip(tokens, choice.before[first:end], strict=True):
        names.append(_named(engine, token.id, before)[0])
        told: dict[str, float] = {}
        for number, value in token.alternatives.items():
            told.setdefault(_named(engine, number, before)[0], value)
        likely.append(told | {names[-1]: token.logprob})
    return {
        "tokens": names,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": likely,
        "text_offset": choice.offsets[first:end],
    }


def chat_logprobs(
    engine: Engine, choice: Choice, first: int = 0, end: int | None = None
) -> dict[str, Any]:
    """OpenAI's form for chat, of the tokens from number `first` to before `end`."""

    def entry(number: int, logprob: float, before: int | None) -> dict[str, Any]:
        name, piece = _named(engine, number, before)
        return {"token": name, "logprob": logprob, "bytes": list(piece)}

    content = [
        entry(token.id, token.logprob, before)
        | {"top_logprobs": [entry(i, value, before) for i, value in token.alternatives.items()]}
        for token, before in zip(choice.tokens[first:end], choice.before[first:end], strict=True)
    ]
    return {"content": content, "refusal": None}
