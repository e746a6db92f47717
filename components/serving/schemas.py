"""The requests of the HTTP API, as OpenAI's clients send them."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MODEL = Field(description="`base`, or an adapter's name; GET /v1/models lists them.")


class _Closed(BaseModel):
    """Unknown fields are refused: one that was silently ignored would change an answer. So are
    values of another type: `"yes"` is no truth.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


class _Request(_Closed):
    """What a request as a whole must be."""

    @model_validator(mode="before")
    @classmethod
    def _is_unicode(cls, body: Any) -> Any:
        """JSON can write half a surrogate pair, which is no character: tokenizers fail on it."""
        try:
            text = json.dumps(body, ensure_ascii=False) if isinstance(body, dict) else ""
            text.encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise ValueError(f"{half} is half a surrogate pair and no character") from None
        return body


class TemplateCall(_Closed):
    """A registered prompt to render. Variables are data: nothing in them is searched or run."""

    id: str = Field(examples=["sentiment"])
    version: int | str | None = Field(
        default=None, description="A number or an alias; else the champion.", examples=["champion"]
    )
    variables: dict[str, str] = Field(default_factory=dict, examples=[{"text": "Not dull."}])


class StreamOptions(_Closed):
    """What a stream tells beside the text."""

    include_usage: bool = False


class JsonSchema(_Closed):
    """A schema, under a name that nobody reads, as OpenAI's clients send it."""

    name: str = "answer"
    json_schema: dict[str, Any] = Field(alias="schema", examples=[{"type": "object"}])
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(_Closed):
    """What an answer must be: any text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema belongs to type json_schema, which needs one")
        return self

    def text(self) -> str | None:
        """The schema as JSON text; None where any text will do."""
        if self.type == "text":
            return None
        return json.dumps(self.json_schema.json_schema if self.json_schema else {"type": "object"})


class Generation(_Request):
    """What completions and chat have in common."""

    model: str = MODEL
    template: TemplateCall | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: Annotated[list[str], Field(max_length=4)] | str | None = Field(
        default=None, description="Texts at which an answer ends, at most four."
    )
    n: int = Field(default=1, ge=1)
    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    top_k: int = Field(default=0, ge=0, lt=2**63, description="The likeliest tokens; 0: all.")
    min_p: float = Field(
        default=0.0, ge=0, le=1, allow_inf_nan=False, description="Of the likeliest token's."
    )
    repetition_penalty: float = Field(default=1.0, gt=0, le=10, allow_inf_nan=False)
    choices: Annotated[list[str], Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="The answer is one of these texts."
    )
    response_format: ResponseFormat | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _held_to_one_thing(self) -> "Generation":
        held = self.response_format is not None and self.response_format.type != "text"
        if self.choices and held:
            raise ValueError("choices and response_format hold an answer to two things; give one")
        if self.choices and "" in self.choices:
            raise ValueError("choices has an empty text, which is no answer")
        return self

    @property
    def stops(self) -> list[str]:
        """The stop strings, without empty ones, which would end every answer."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in stop if text]


class CompletionRequest(Generation):
    """A prompt to continue: a text, or a list of token numbers.

    Only numbers can name a control token; in a text, what looks like one is text.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "base", "prompt": "The film was", "max_tokens": 16}]
        }
    )
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


class Message(_Closed):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(Generation):
    """A conversation to answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "base",
                    "messages": [{"role": "user", "content": "What did the cat do?"}],
                    "max_tokens": 16,
                }
            ]
        }
    )
    messages: list[Message] = Field(default_factory=list)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)


class ClassifyRequest(_Request):
    """Texts to label, with the wording that the adapter was trained with."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "lora", "input": ["The plot is not dull."]}]}
    )
    model: str = MODEL
    input: str | Annotated[list[str], Field(min_length=1)]

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class TokenizeRequest(_Request):
    """A text to cut into tokens."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": "The film was good."}]})
    input: str
    model: str | None = Field(default=None, description="Checked to exist; all share tokens.")
    tokenizer: str | None = Field(
        default=None, description="Another one's name, of GET /v1/tokenizers."
    )


class FeedbackRequest(_Request):
    """What somebody says of an answer: a score, the right label, or a better text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "cls-0123456789abcdef-0123456789ab0123456789ab",
                    "label": "positive",
                }
            ]
        }
    )
    id: str = Field(max_length=100, description="The answer's.")
    score: float | None = Field(default=None, allow_inf_nan=False)
    label: str | None = Field(default=None, min_length=1, max_length=1000)
    correction: str | None = Field(default=None, max_length=1 << 16)

    @model_validator(mode="after")
    def _says_something(self) -> "FeedbackRequest":
        if self.score is None and self.label is None and self.correction is None:
            raise ValueError("give score, label or correction")
        return self


class InspectRequest(_Request):
    """A prompt to look into a model with."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "base", "prompt": "The film was"}]}
    )
    model: str = MODEL
    prompt: str = Field(min_length=1)


class AttentionRequest(InspectRequest):
    """Which attention to show."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "base", "prompt": "The film was", "layer": 0, "head": 0}]
        }
    )
    layer: int = Field(default=0, ge=0)
    head: int = Field(default=0, ge=0)
