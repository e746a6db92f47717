"""The stages of this group of families."""

from pathlib import Path

from components.ladder.block import Rung
from components.ladder.ground import Ground


def train(rung: Rung, ground: Ground, out: Path) -> dict[str, float]:
    raise NotImplementedError


def measure(rung: Rung, ground: Ground, trained: Path, out: Path) -> dict[str, float]:
    raise NotImplementedError
