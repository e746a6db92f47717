"""What the endpoints share: the engine and its bounds, templates, fingerprints, figures."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from components.serving.engine import BASE, Engine, RequestError
from components.serving.fingerprints import Fingerprints
from components.serving.templates import Template, Templates

MOST_REQUESTS = 256  # at once; beyond that a client does better to come again


class Gateway:
    """One for each application; its engine takes many callers, and lines them up itself."""

    def __init__(
        self, engine: Engine, templates: Templates, folder: Path, identity: Mapping[str, Any]
    ) -> None:
        """identity: what every answer has in common, with `pipeline`; `versions` by model and
        `prompts` (the version of its prompt that an adapter was made with) where registered.
        """
        self.engine, self.templates = engine, templates
        self.fingerprints, self.identity = Fingerprints(folder), dict(identity)
        self._prompts = self.identity.pop("prompts", {})
        self.running = 0
        self.figures = CollectorRegistry()
        labels = ["endpoint", "model", "status"]
        self.requests = Counter("kindling_requests", "Answered.", labels, registry=self.figures)
        self.seconds = Histogram(
            "kindling_seconds", "Of an answer.", ["endpoint"], registry=self.figures
        )
        self.tokens = Counter(
            "kindling_tokens", "Read and written.", ["direction"], registry=self.figures
        )

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Count a request that works; refuse where too many do already.

        Raises:
            RequestError: overloaded.
        """
        if self.running >= MOST_REQUESTS:
            raise RequestError(f"{self.running} requests run; come again", None, "overloaded")
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def known(self, model: str) -> Mapping[str, Any]:
        models = self.engine.models()
        if model not in models:
            known = ", ".join(models)
            raise RequestError(
                f"no model '{model}'; there are: {known}", "model", "model_not_found"
            )
        return models[model]

    def fingerprint(
        self, model: str, described: Mapping[str, Any], template: Template | None = None
    ) -> str:
        """The fingerprint of answers of `model`, on disk when this returns.

        described: as `known` told it, so that a version that moves meanwhile changes nothing.
        """
        record = {
            **self.identity,
            "base": self._placed(BASE, self.engine.models()[BASE]),
            "adapter": self._placed(model, described) if model != BASE else None,
            "template": template.content() if template else None,
            "engine": dict(self.engine.about()),
        }
        return self.fingerprints.of(record)

    def _placed(self, name: str, about: Mapping[str, Any]) -> dict[str, Any]:
        pipeline = self.identity["pipeline"]
        path = f"{pipeline}/base" if name == BASE else f"{pipeline}/adapters/{name}"
        versions = self.identity.get("versions", {})
        placed = {**about, "name": name, "path": path}
        placed["version"] = about.get("version", versions.get(name))
        if (
            name in self._prompts and "version" not in about["prompt"]
        ):  # which /v1/classify renders, whatever is champion meanwhile
            placed["prompt"] = about["prompt"] | {"version": self._prompts[name]}
        return placed
