"""`lora`: a low-rank delta that learns the answers (Hu et al. 2021)."""

from typing import Literal

from components.adapters.low_rank import LowRank, build
from components.adapters.method import Method


class Lora(LowRank):
    """Low-rank deltas, trained on the answers of rows."""

    method: Literal["lora"]


METHOD = Method(Lora, build)
