"""`prompt`: design only. Nothing is trained; worked examples may stand before the prompt."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.adapters.method import Method
from components.adapters.settings import Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PromptDesign(Adapter):
    """Brown et al. 2020, section 2. shots: worked examples; default: as many as the prompt says."""

    method: Literal["prompt"]
    shots: int | None = Field(default=None, ge=0)


def load(base: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """The base as it is."""
    return base


METHOD = Method(PromptDesign, build=None, load=load, choices={"shots": (0, 1, 2, 4, 8)})
