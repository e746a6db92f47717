"""What a component may tell the world while it works.

A component is handed a `Reporter` and knows nothing else: that a metric ends in MLflow, on a
progress bar or in a Prefect artifact is the business of `flows`.
"""

from collections.abc import Mapping
from typing import Protocol


class Reporter(Protocol):
    """Receives a component's parameters, metrics, progress and texts."""

    def params(self, values: Mapping[str, object]) -> None:
        """Record settings that the catalogue does not hold, such as a derived step count."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record figures at `step`, an integer that never decreases (steps or tokens)."""

    def progress(self, done: float, total: float, note: str = "") -> None:
        """Say that `done` of `total` units of work are finished; `note` stands beside the bar."""

    def text(self, name: str, text: str) -> None:
        """Keep `text` as a file called `name` beside the run."""


class Silent:
    """A reporter that keeps nothing: for tests and for use as a library."""

    def params(self, values: Mapping[str, object]) -> None:
        pass

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        pass

    def progress(self, done: float, total: float, note: str = "") -> None:
        pass

    def text(self, name: str, text: str) -> None:
        pass
