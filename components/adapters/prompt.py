"""`prompt`: design only. Nothing is trained; worked examples may stand before the prompt."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters.settings import Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PromptDesign(Adapter):
    """Brown et al. 2020, section 2. shots: worked examples; default: as many as the prompt says.

    content_free: texts that say nothing, such as N/A; what the prompt favours after them is divided
    out of the labels' probabilities (Zhao et al. 2021, section 5). orders: of the shots, so many
    are tried on validation data, the adapter's own among them, to see how much the order matters.
    """

    method: Literal["prompt"]
    shots: int | None = Field(default=None, ge=0)
    content_free: list[str] = Field(default_factory=list)
    orders: int = Field(default=1, ge=1)


def load(base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """The base as it is."""
    return base
