"""Bodies of requests that generate no text, and what the body of every request must be."""

import json
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from components.serving.foreign import Closed, wrong

MODEL = Field(description="`base`, or an adapter's name; GET /v1/models lists them.")


class Body(Closed):
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
            raise wrong(None, f"{half} is half a surrogate pair and no character") from None
        except RecursionError:  # Python reads JSON a little deeper than it writes it
            raise wrong(None, "the body is nested too deeply") from None
        return body


class ClassifyRequest(Body):
    """Texts to label, with the wording that the adapter was trained with."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "lora", "input": ["The plot is not dull."]}]}
    )
    model: str = MODEL
    input: str | Annotated[list[str], Field(min_length=1)]

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class TokenizeRequest(Body):
    """A text to cut into tokens."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": "The film was good."}]})
    input: str
    model: str | None = Field(default=None, description="Checked to exist; all share tokens.")
    tokenizer: str | None = Field(
        default=None, description="Another one's name, of GET /v1/tokenizers."
    )


class FeedbackRequest(Body):
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
            raise wrong(None, "give score, label or correction")
        return self


class InspectRequest(Body):
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
