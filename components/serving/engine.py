"""What the server asks of an engine: tokens in, tokens out. Nothing here knows of HTTP."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from components.serving.gone import Gone

BASE = "base"
UNRECORDED = ("created", "described")  # of what an engine tells: a time, and what its hash covers


class RequestError(ValueError):
    """A request that cannot be answered. param: the field at fault; code: as OpenAI names it.

    retry_seconds: when it is worth asking again.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str = "invalid_value",
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.param, self.code, self.retry_seconds = param, code, retry_seconds


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. temperature 0 is greedy; top: how many alternatives to report.

    top_k 0, min_p 0 and repetition_penalty 1 leave the distribution as it is. choices: the answer
    is one of them; json_schema (JSON text): it is JSON of that schema.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    top: int = 0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    choices: tuple[str, ...] = ()
    json_schema: str | None = None


@dataclass(frozen=True)
class Caller:
    """Who asks.

    tenant: equal beginnings of prompts are computed once within a tenant, and never across. shared:
    so many tokens of the prompt's beginning are nobody's secret, as the fixed head of a template,
    and are computed once for all. opened: the prompt has a beginning of its own, as a chat may have
    by its template, and the end of another document is not put before it. gone: says when they wait
    no more, so that the work stops then.
    """

    tenant: str = ""
    shared: int = 0
    opened: bool = False
    gone: Gone = field(default_factory=Gone, compare=False)


NOBODY = Caller()


@dataclass(frozen=True)
class Token:
    """One generated token. logprob: natural log, before temperature. alternatives: by token."""

    id: int
    logprob: float
    alternatives: Mapping[int, float]


def recorded(about: Mapping[str, Any]) -> dict[str, Any]:
    """What fingerprints and lists of models hold of what an engine tells of a model."""
    return {key: value for key, value in about.items() if key not in UNRECORDED}


class Engine(Protocol):
    """A base and its adapters, ready to answer `at_once` callers at a time, each in its thread."""

    at_once: int

    def models(self) -> Mapping[str, Mapping[str, Any]]:
        """What is served, by name, `base` first: see `proof.about_adapter`."""

    def model(self, name: str) -> Mapping[str, Any] | None:
        """What `models` says of one of them, however many there are."""

    def unavailable(self) -> Mapping[str, str]:
        """Why adapters that were to be served are not, by name."""

    def reason(self, name: str) -> str | None:
        """What `unavailable` says of one of them."""

    def add(self, name: str, folder: Path, evaluation: Path | None = None) -> None:
        """Serve the adapter of `folder` too, or say under `unavailable` why not.

        evaluation: the folder with its golden prompts, which it must answer as it did then.

        Raises:
            ValueError: something is served under that name; a request could mix the two.
        """

    def warm(self) -> None:
        """Load and prove what fits into memory, so that no first request waits for it."""

    def remove(self, name: str) -> None:
        """Forget an adapter, or why it is unavailable; requests that it answers end in peace."""

    def figures(self) -> Mapping[str, float]:
        """Counts of its own, such as hits of a cache, by a name of letters and underscores."""

    def vocabulary(self) -> int:
        """How many tokens there are: the numbers below that."""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text. What looks like a control token in it is text."""

    def encode_fixed(self, text: str) -> tuple[int, ...]:
        """As `encode`, of a text that comes with many requests: a template's head, a label."""

    def piece(self, token: int, before: int | None) -> bytes:
        """What a token adds to a text behind the token `before`, None at its beginning.

        Maybe a part of a character; nothing, of a control token.
        """

    def word(self, token: int) -> str:
        """A token as the vocabulary has it."""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The tokens of a conversation, up to where the assistant answers.

        Its control tokens are those that the template writes; no message can forge one.

        Raises:
            RequestError: there is no template, or it refuses these messages.
        """

    @property
    def chat_opens(self) -> bool:
        """Whether `chat` gives all that the model is to read.

        So it is with a base that was brought along: its template writes the beginning that it was
        trained with, or none. One that was trained here read each document behind the end of
        another, which our template leaves to the engine.
        """

    def memory(self, model: str) -> int:
        """How many bytes an adapter takes beside the base, which is loaded if it was not."""

    def room(self, model: str) -> int:
        """How many tokens a prompt and its answer may have in all."""

    def generate(
        self, model: str, ids: Sequence[int], sampling: Sampling, caller: Caller = NOBODY
    ) -> Iterator[Token]:
        """Tokens one by one, none that ends an answer. Closing the iterator stops the work."""

    def classify(
        self, model: str, texts: Sequence[str], caller: Caller = NOBODY
    ) -> list[dict[str, float]]:
        """The probability of each label for each text."""

    def about(self) -> Mapping[str, str]:
        """Name and versions, for fingerprints."""

    def close(self) -> None:
        """Stop working; requests that have not ended fail."""
