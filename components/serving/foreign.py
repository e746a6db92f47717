"""What OpenAI's clients may send and this server does nothing with.

Clients send much of it unasked, so what asks for nothing is taken. The rest is refused: an answer
must not differ from what was asked for without a word.
"""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from components.mistakes import suggestion

LONGEST_NAME = 60  # characters of an unknown field's name that an error quotes


def wrong(field: str | None, said: str) -> PydanticCustomError:
    """A refusal of a value for what it is. field: below the model that raises it."""
    return PydanticCustomError("invalid_value", "{said}", {"said": said, "field": field})


class Closed(BaseModel):
    """Unknown fields are refused: one that was silently ignored would change an answer. So are
    values of another type: `"yes"` is no truth.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _fields_are_known(cls, given: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        unknown = [name for name in given if name not in known] if isinstance(given, dict) else []
        if unknown:
            name = str(unknown[0])[:LONGEST_NAME]
            raise wrong(name, f"unknown field '{name}'{suggestion(name, known)}")
        return given


def _only(*values: Any) -> Any:
    """The type of a field that may be null, or one of `values`."""
    taken = " or ".join(["null", *map(json.dumps, values)])

    def check(given: Any) -> Any:
        # to Python, false is 0
        same = [v for v in values if v == given and isinstance(v, bool) == isinstance(given, bool)]
        if given is not None and not same:
            raise PydanticCustomError("unsupported", f"this server takes only {taken} there")
        return given

    return Annotated[Any, AfterValidator(check), WithJsonSchema({"enum": [None, *values]})]


NULL, FALSE, ZERO, NO_TEXT = _only(), _only(False), _only(0), _only("")
NO_LIST, NO_KEYS, NO_CALL = _only([]), _only({}), _only("none", "auto")


class Parameters(Closed):
    """Of completions and chats."""

    frequency_penalty: ZERO = None
    presence_penalty: ZERO = None
    logit_bias: NO_KEYS = None
    user: str | None = None  # says who asks, and changes no answer


class CompletionParameters(Closed):
    """Of completions alone."""

    echo: FALSE = None
    suffix: NO_TEXT = None


class ChatParameters(Closed):
    """Of chats alone."""

    tools: NO_LIST = None
    tool_choice: NO_CALL = None
    functions: NO_LIST = None
    function_call: NO_CALL = None
    modalities: _only(["text"]) = None
    reasoning_effort: _only("none") = None
    service_tier: _only("auto", "default") = None
    store: FALSE = None
    audio: NULL = None
    moderation: NULL = None
    prediction: NULL = None
    verbosity: NULL = None
    web_search_options: NULL = None
    # without tools, or for a cache and an account elsewhere: these change no answer
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None


class MessageParts(Closed):
    """Of a message: an answer goes back as the next request's message, with whatever it has."""

    refusal: NULL = None
    audio: NULL = None
    function_call: NULL = None
    tool_calls: NO_LIST = None
    annotations: NO_LIST = None
