"""The requests of the HTTP API, as OpenAI's clients send them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

MOST_CHOICES = 16
MOST_TEXTS = 256


class _Request(BaseModel):
    """Unknown fields are refused: one that was silently ignored would change an answer."""

    model_config = ConfigDict(extra="forbid")
    model: str


class TemplateCall(BaseModel):
    """A registered prompt to render. version: a number or an alias."""

    model_config = ConfigDict(extra="forbid")
    id: str
    version: int | str | None = None
    variables: dict[str, str] = Field(default_factory=dict)


class StreamOptions(BaseModel):
    include_usage: bool = False


class Generation(_Request):
    """What completions and chat have in common."""

    template: TemplateCall | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: list[str] = Field(default_factory=list, max_length=4)
    n: int = Field(default=1, ge=1, le=MOST_CHOICES)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    user: str | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, stop: Any) -> Any:
        if stop is None:
            return []
        return [stop] if isinstance(stop, str) else stop


class CompletionRequest(Generation):
    """`POST /v1/completions`.

    prompt: a text, or a list of token numbers. Only numbers can name a control token.
    """

    prompt: str | list[int] | None = None
    max_tokens: int = Field(default=16, ge=1)
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @field_validator("prompt", mode="before")
    @classmethod
    def _text_or_numbers(cls, prompt: Any) -> Any:
        # pydantic would read the text "12" as token 12
        wrong = [one for one in prompt if type(one) is not int] if isinstance(prompt, list) else []
        if wrong:
            raise ValueError(f"a list holds token numbers, not {wrong[0]!r}; give one text alone")
        return prompt


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(Generation):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(default_factory=list)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)


class ClassifyRequest(_Request):
    """`POST /v1/classify`."""

    input: str | list[str] = Field(min_length=1)

    @field_validator("input")
    @classmethod
    def _as_list(cls, value: str | list[str]) -> list[str]:
        texts = [value] if isinstance(value, str) else value
        if len(texts) > MOST_TEXTS:
            raise ValueError(f"{len(texts)} texts; at most {MOST_TEXTS} a request")
        return texts


class TokenizeRequest(BaseModel):
    """`POST /v1/tokenize`."""

    model_config = ConfigDict(extra="forbid")
    input: str
    model: str | None = None
