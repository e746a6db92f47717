"""Where a search stands, and the seed of all its trials."""

from dataclasses import dataclass
from pathlib import Path

SEED = 0  # of all trials; the final trainings have others


@dataclass(frozen=True)
class Ground:
    """Where a search stands. trials: a folder that outlives it. origin: the hash of inputs, code
    and versions; with a trial's settings it says which trial that is.
    """

    task: Path
    base: Path
    trials: Path
    origin: str
