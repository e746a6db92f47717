"""Bodies of requests for completions and chat, as OpenAI's clients send them."""

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from components.serving import foreign
from components.serving.foreign import Closed, wrong
from components.serving.invalid import shown
from components.serving.schemas import MODEL, Body

Stop = Annotated[str, Field(max_length=1000)]  # looked for with every token of an answer


class TemplateCall(Closed):
    """A registered prompt to render. Variables are data: nothing in them is searched or run."""

    id: str = Field(examples=["sentiment"])
    version: int | str | None = Field(
        default=None, description="A number or an alias; else the champion.", examples=["champion"]
    )
    variables: dict[str, str] = Field(default_factory=dict, examples=[{"text": "Not dull."}])


class StreamOptions(Closed):
    """What a stream tells beside the text."""

    include_usage: bool | None = False
    include_obfuscation: foreign.FALSE = None


class JsonSchema(Closed):
    """A schema, under a name that nobody reads, as OpenAI's clients send it."""

    name: str = "answer"
    json_schema: dict[str, Any] = Field(alias="schema", examples=[{"type": "object"}])
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Closed):
    """What an answer must be: any text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise wrong("json_schema", "json_schema belongs to type json_schema, which needs one")
        return self

    def text(self) -> str | None:
        """The schema as JSON text; None where any text will do."""
        if self.type == "text":
            return None
        return json.dumps(self.json_schema.json_schema if self.json_schema else {"type": "object"})


class Generation(Body, foreign.Parameters):
    """What completions and chat have in common. Null is a field's default, as OpenAI has it."""

    model: str = MODEL
    template: TemplateCall | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    seed: int | None = None
    stop: Annotated[list[Stop], Field(max_length=4)] | Stop | None = Field(
        default=None, description="Texts at which an answer ends, at most four."
    )
    n: int | None = Field(default=1, ge=1)
    temperature: float | None = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(
        default=0, ge=0, lt=2**63, description="The likeliest tokens; 0: all."
    )
    min_p: float | None = Field(
        default=0.0, ge=0, le=1, allow_inf_nan=False, description="Of the likeliest token's."
    )
    # logits are divided by it: near 0 they would be infinite
    repetition_penalty: float | None = Field(default=1.0, ge=0.01, le=10, allow_inf_nan=False)
    choices: Annotated[list[str], Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="The answer is one of these texts."
    )
    response_format: ResponseFormat | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_the_default(cls, value: Any, field: ValidationInfo) -> Any:
        declared = cls.model_fields[field.field_name]
        if value is None and not declared.is_required():
            return declared.get_default(call_default_factory=True)
        return value

    @model_validator(mode="after")
    def _held_to_one_thing(self) -> "Generation":
        held = self.response_format is not None and self.response_format.type != "text"
        if self.choices and held:
            raise wrong(
                "choices", "choices and response_format hold an answer to two things; give one"
            )
        if self.choices and "" in self.choices:
            raise wrong("choices", "choices has an empty text, which is no answer")
        return self

    @model_validator(mode="after")
    def _has_what_options_are_for(self) -> "Generation":
        if self.stream_options is not None and not self.stream:
            raise wrong("stream_options", "stream_options is for an answer with stream: true alone")
        return self

    @property
    def stops(self) -> list[str]:
        """The stop strings, without empty ones, which would end every answer."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in stop if text]


ONE = Field(min_length=1, max_length=1)


class CompletionRequest(Generation, foreign.CompletionParameters):
    """A prompt to continue: a text, or a list of token numbers; or a list of one of these.

    Only numbers can name a control token; in a text, what looks like one is text.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "base", "prompt": "The film was", "max_tokens": 16}]
        }
    )
    prompt: str | list[int] | Annotated[list[str], ONE] | Annotated[list[list[int]], ONE] | None = (
        None
    )
    max_tokens: int | None = Field(default=16, ge=1)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    best_of: int | None = Field(default=None, description="As many as `n`.")

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_text_or_its_numbers(cls, prompt: Any) -> Any:
        if not isinstance(prompt, list):
            return prompt
        if len(prompt) > 1 and all(isinstance(one, str | list) for one in prompt):
            raise wrong(None, f"prompt holds {len(prompt)} prompts; a request has one here")
        if len(prompt) == 1 and isinstance(prompt[0], str | list):
            prompt = prompt[0]
        # pydantic would read the text "12" as token 12
        odd = [one for one in prompt if type(one) is not int] if isinstance(prompt, list) else []
        if odd:
            raise wrong(None, f"prompt is a list that holds {shown(odd[0])}, which is no token")
        return prompt

    @model_validator(mode="after")
    def _chooses_no_best(self) -> "CompletionRequest":
        if self.best_of not in (None, self.n):
            raise wrong(
                "best_of",
                f"best_of is {self.best_of}, n is {self.n}; this server gives all answers that it "
                "makes, so they must be equal",
            )
        return self


class TextPart(Closed):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class Message(foreign.MessageParts):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="`developer` is another word for `system`."
    )
    content: str | list[TextPart]
    name: str | None = Field(default=None, description="For chat templates that know of it.")

    @field_validator("content")
    @classmethod
    def _in_one_piece(cls, content: str | list[TextPart]) -> str:
        if isinstance(content, str):
            return content
        return "".join(part.text for part in content)

    def told(self) -> dict[str, str]:
        """As a chat template reads it."""
        role = "system" if self.role == "developer" else self.role
        named = {"name": self.name} if self.name is not None else {}
        return {"role": role, "content": self.content, **named}


class ChatRequest(Generation, foreign.ChatParameters):
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
    messages: list[Message] | None = Field(default_factory=list)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _alternatives_are_of_logprobs(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise wrong("top_logprobs", "top_logprobs is for an answer with logprobs: true alone")
        return self
