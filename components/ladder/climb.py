"""A ladder as its book sees it: the folders of its rungs, by family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.ladder.block import Expectation, Rung, key


@dataclass(frozen=True)
class Climb:
    """artifacts: the workspace's folder of results. rungs: by name, in the reader's order.
    seconds: that a training took, by its key, and speeds: bytes that a vocabulary cuts in a second,
    as far as this workspace knows.
    """

    name: str
    artifacts: Path
    rungs: Mapping[str, Rung]
    seeds: int
    vocabulary_names: Sequence[str]
    expects: Sequence[Expectation] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    speeds: Mapping[str, float] = field(default_factory=dict)

    def of(self, *families: str) -> list[str]:
        """The names of the rungs of `families`, in the reader's order."""
        return [name for name, rung in self.rungs.items() if rung.model.family in families]

    def measured(self, *families: str) -> dict[str, list[Path]]:
        """For each rung of `families` the folders of its measures, one a seed."""
        return {name: self.measures(name) for name in self.of(*families)}

    def trained(self, *families: str) -> dict[str, list[Path]]:
        """For each rung of `families` the folders of its models, one a seed."""
        return {name: self.models(name) for name in self.of(*families)}

    def measures(self, name: str) -> list[Path]:
        """The folders of a rung's measures, one a seed."""
        return self._folders("measures", name)

    def models(self, name: str) -> list[Path]:
        """The folders of a rung's trained models, one a seed."""
        return self._folders("rungs", name)

    def time(self, name: str) -> float | None:
        """The seconds of a rung's first training; None where it was made elsewhere."""
        return self.seconds.get(key(name, 1))

    def vocabularies(self) -> dict[str, Path]:
        return {name: self.artifacts / "vocabularies" / name for name in self.vocabulary_names}

    def _folders(self, kind: str, name: str) -> list[Path]:
        return [self.artifacts / kind / key(name, seed) for seed in range(1, self.seeds + 1)]
