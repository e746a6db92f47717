"""`prompt`: design only. Nothing is trained; worked examples may stand before the prompt."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from components.adapters.method import Method
from components.adapters.settings import Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PromptDesign(Adapter):
    """Brown et al. 2020, section 2. shots: worked examples; default: as many as the prompt says.

    samples, temperature: of generated answers; with several, the one that most of them come to
    counts (self-consistency, Wang et al. 2022). temperature 0 takes the likeliest token.
    content_free: texts that say nothing, such as N/A; what the prompt favours after them is divided
    out of the labels' probabilities (Zhao et al. 2021, section 5). orders: of the shots, so many
    are tried on validation data, the adapter's own among them, to see how much the order matters.
    """

    method: Literal["prompt"]
    shots: int | None = Field(default=None, ge=0)
    samples: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    content_free: list[str] = Field(default_factory=list)
    orders: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _samples_differ(self) -> "PromptDesign":
        if self.samples > 1 and not self.temperature:
            raise ValueError(
                f"samples {self.samples} at temperature 0 are all the same; 0.7 is usual"
            )
        return self


def load(base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """The base as it is."""
    return base


SHOTS = (0, *(2**n for n in range(8)))  # to 128: as many as fit the context are tried
METHOD = Method(PromptDesign, build=None, load=load, choices={"shots": SHOTS})
