"""The answers of the HTTP API, for its OpenAPI document and the checks against it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Reply(BaseModel):
    model_config = ConfigDict(extra="allow")


class ErrorDetail(BaseModel):
    """What went wrong: `param` is the field at fault, `code` as OpenAI names it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """An error in OpenAI's shape."""

    error: ErrorDetail


class Health(_Reply):
    """Whether the server takes requests."""

    status: Literal["ok", "draining"]
    models: list[str]


class ModelEntry(_Reply):
    """A model. `created`: when its files were made, 0 where it has none here. `reason`: why it is
    unavailable. `score`: what its evaluation found.
    """

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "kindling"
    available: bool
    reason: str | None = None
    version: int | None = None
    content: str | None = None
    method: str | None = None
    task: str | None = None
    prompt: dict[str, Any] | None = None
    labels: list[str] = []
    score: dict[str, Any] | None = None
    backend: str


class ModelList(_Reply):
    """What may be named as `model`."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


class TemplateEntry(_Reply):
    """One version of a registered prompt."""

    id: str
    version: int
    template: str
    variables: list[str]
    sha: str
    aliases: list[str]


class TemplateList(_Reply):
    """What `template` may name."""

    object: Literal["list"] = "list"
    data: list[TemplateEntry]


class Usage(_Reply):
    """Tokens, counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Answer(_Reply):
    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[dict[str, Any]]
    usage: Usage
    template: dict[str, Any] | None = None


class Completion(_Answer):
    """As OpenAI's; with `stream` the same in pieces, as server-sent events."""

    object: Literal["text_completion"]


class ChatCompletion(_Answer):
    """As OpenAI's; with `stream` the same in pieces, as server-sent events."""

    object: Literal["chat.completion"]


class Label(_Reply):
    """The most probable label, and all of them with their probabilities."""

    label: str
    probabilities: dict[str, float]


class Classification(_Reply):
    """A label for each text, in order."""

    id: str
    object: Literal["classification"] = "classification"
    model: str
    results: list[Label]
    system_fingerprint: str


class Tokens(_Reply):
    """The tokens of a text. `spans`: where each stands in it, in characters."""

    object: Literal["tokens"] = "tokens"
    tokenizer: str
    tokens: list[int]
    pieces: list[str]
    spans: list[list[int]]
    count: int
    characters: int


class TokenizerList(_Reply):
    """Names for `tokenizer`; the first is the one of the models that are served."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]


class Feedback(_Reply):
    """What was kept; it is on disk."""

    object: Literal["feedback"] = "feedback"
    id: str
    fingerprint: str
    model: str
    time: str


class Position(_Reply):
    """A token that was read, and what the model expected after it, likeliest first.

    `next`: the probability that it gave to the token that does follow; null at the end.
    """

    piece: str
    token: int
    next: float | None
    expected: list[dict[str, Any]]


class Predictions(_Reply):
    """The next token's probabilities at each position."""

    model: str
    positions: list[Position]


class Attention(_Reply):
    """How each token (a row) attends to those before it (columns), which begin with an adapter's
    `virtual` tokens. Each row adds up to 1.
    """

    model: str
    layer: int
    head: int
    layers: int
    heads: int
    virtual: int
    pieces: list[str]
    weights: list[list[float]]


class Neighbours(_Reply):
    """The vocabulary's tokens that the vectors of a soft prompt lie nearest to, by cosine."""

    model: str
    vectors: list[dict[str, Any]]


class Lineage(_Reply):
    """What made an answer: its record, and the artifacts behind it, the nearest first."""

    id: str
    kind: str
    chain: list[dict[str, Any]]
