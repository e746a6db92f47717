"""What the endpoints share: the engine behind its queue, templates, fingerprints, figures."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from components.serving.engine import BASE, Engine, RequestError
from components.serving.fingerprints import Fingerprints
from components.serving.templates import Template, Templates

LONGEST_QUEUE = 32  # requests that wait; beyond that a client does better to come again


class Gateway:
    """One for each application; its engine has one caller at a time."""

    def __init__(
        self, engine: Engine, templates: Templates, folder: Path, identity: Mapping[str, Any]
    ) -> None:
        """identity: what every answer has in common, with `pipeline`; `versions` by model and
        `prompts` (the version of its prompt that an adapter was made with) where registered.
        """
        self.engine, self.templates = engine, templates
        self.fingerprints, self.identity = Fingerprints(folder), dict(identity)
        self._prompts = self.identity.pop("prompts", {})
        self._engine_free = asyncio.Lock()
        self._waiting = 0
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
        """Wait for the engine in line; refuse where too many wait already.

        Raises:
            RequestError: overloaded.
        """
        if self._waiting >= LONGEST_QUEUE:
            raise RequestError(f"{self._waiting} requests wait; come again", None, "overloaded")
        self._waiting += 1
        try:
            await self._engine_free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._engine_free.release()

    def known(self, model: str) -> Mapping[str, Any]:
        models = self.engine.models()
        if model not in models:
            known = ", ".join(models)
            raise RequestError(
                f"no model '{model}'; there are: {known}", "model", "model_not_found"
            )
        return models[model]

    def fingerprint(self, model: str, template: Template | None = None) -> str:
        """The fingerprint of answers of `model`, on disk when this returns."""
        described = self.known(model)
        models = self.engine.models()
        record = {
            **self.identity,
            "base": self._placed(BASE, models[BASE]),
            "adapter": self._placed(model, described) if model != BASE else None,
            "template": template.content() if template else None,
            "engine": dict(self.engine.about()),
        }
        return self.fingerprints.of(record)

    def _placed(self, name: str, about: Mapping[str, Any]) -> dict[str, Any]:
        pipeline = self.identity["pipeline"]
        path = f"{pipeline}/base" if name == BASE else f"{pipeline}/adapters/{name}"
        versions = self.identity.get("versions", {})
        placed = {**about, "name": name, "path": path, "version": versions.get(name)}
        if name in self._prompts:  # which /v1/classify renders, whatever is champion meanwhile
            placed["prompt"] = about["prompt"] | {"version": self._prompts[name]}
        return placed
