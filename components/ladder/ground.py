"""What a rung is given to work on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.reporter import Reporter


@dataclass(frozen=True)
class Ground:
    """Folders and files of a rung, and whom to tell.

    corpus, also: data sets, as `artifacts/datasets/NAME` holds them. vocabulary: a folder that
    `tokenizer.open_engine` opens. identity: the hash of all that shapes the training, for its
    checkpoints.
    """

    corpus: Path
    also: Path | None
    vocabulary: Path
    files: Mapping[str, Path]
    seed: int
    checkpoints: Path
    identity: str
    report: Reporter
