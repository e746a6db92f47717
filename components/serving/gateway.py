"""What the endpoints share: the deployment, the line before its engine, and everything kept."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

from components.serving.deployment import Current, Deployment
from components.serving.engine import RequestError
from components.serving.feedback import FILE, FeedbackStore, Memory
from components.serving.figures import Figures
from components.serving.fingerprints import FOLDER, Fingerprints
from components.serving.keys import Keys, Rates
from components.serving.limits import Serving
from components.serving.line import Line
from components.serving.logs import RequestLog
from components.serving.story import Listener
from components.serving.templates import Template, Templates


class Gateway:
    """One for each application."""

    def __init__(
        self,
        deployment: Deployment,
        templates: Templates,
        workspace: Path,
        limits: Serving,
        keys: Keys,
    ) -> None:
        """workspace: where fingerprints and feedback are kept."""
        self.current, self.workspace = Current(deployment), workspace
        self.templates, self.limits, self.keys = templates, limits, keys
        self.rates = Rates(limits.requests_per_minute)
        self.line = Line(deployment.engine.at_once, limits.queue)
        self.fingerprints = Fingerprints(workspace / FOLDER)
        self._digests: WeakKeyDictionary[Deployment, dict] = WeakKeyDictionary()
        self.feedback, self.memory = FeedbackStore(workspace / FILE), Memory()
        self.figures = Figures(
            lambda: self.line.waiting, lambda: self.line.running, self._engine_figures
        )
        self.listeners: list[Listener] = [self.figures, RequestLog(limits.log_texts)]

    def _engine_figures(self) -> Mapping[str, float]:
        return self.current.now.engine.figures()

    @contextmanager
    def admitted(self) -> Iterator[Deployment]:
        """A request's place in line, and the deployment that answers it.

        Raises:
            RequestError: too many wait, or the server takes no more.
        """
        with self.line.place(), self.current.used() as deployment:
            yield deployment

    def fingerprint(
        self, deployment: Deployment, model: str, template: Template | None = None
    ) -> str:
        """The fingerprint of answers of `model`, on disk when this returns."""
        known = self._digests.setdefault(deployment, {})
        asked = (model, template)
        if asked not in known:
            record = deployment.record(model, template.content() if template else None)
            known[asked] = self.fingerprints.of(record)
        return known[asked]

    def require(self, name: str, found: int, most: int, param: str, unit: str) -> None:
        """Refuse what is over a limit.

        Raises:
            RequestError: `found` is more than `most`.
        """
        if found > most:
            raise RequestError(
                f"{param} has {found} {unit}; this server takes {most} at most ({name})", param
            )
