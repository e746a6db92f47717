"""What a stage is, and what its function is given."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.catalogue import Catalogue
from components.reporter import Reporter


@dataclass(frozen=True)
class Work:
    """What a stage function is given: its blocks, its folders, and whom to tell.

    identity: the hash of all that shapes the stage. origin: of its inputs, code and versions alone,
    whatever it is called and asked to do.
    """

    catalogue: Catalogue
    name: str
    workspace: Path
    out: Path
    checkpoints: Path
    identity: str
    origin: str
    report: Reporter

    def artifact(self, path: str) -> Path:
        return self.workspace / "artifacts" / path

    def of_pipeline(self, path: str) -> Path:
        """`path` in the folder of the adapter's pipeline."""
        return self.artifact(f"{self.catalogue.adapters[self.name].pipeline}/{path}")


@dataclass(frozen=True)
class Stage:
    """run: the work. output, inputs: artifact folders, `{name}`, `{pipeline}`, `{task}`,
    `{dataset}` and `{corpus}` standing for those of the block, `{each_task}`, `{each_adapter}`,
    `{each_final}`, `{each_training}` and `{each_vocabulary}` for all of a pipeline's, comparison's
    or ladder's. libraries: those whose version shapes the result. trains: the number of threads
    shapes its last bits. gathers: it reads whatever the other stages of its pipeline made.
    """

    run: Callable[[Work], dict[str, float]]
    output: str
    inputs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    trains: bool = False
    gathers: bool = False
