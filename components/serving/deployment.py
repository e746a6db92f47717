"""What a server serves at one moment: an engine, and which registered versions are its models.

When an alias moves, a new deployment takes over. A request keeps the one that it began with, so no
answer mixes two; what only the old one served is forgotten when its last request has ended.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from components.serving.engine import BASE, Engine, RequestError, recorded
from components.serving.keys import Key


@dataclass(frozen=True, eq=False)
class Deployment:
    """A base and its adapters as they are served.

    identity: what every fingerprint has in common, with `pipeline`. names: what the engine calls
    each adapter, another name for each version. versions, prompts: the registered version of each
    model, and of the prompt that it was made with. refused: why a model that should be here is
    not. scores: what each adapter's evaluation found, as `metric`, `score` and `interval`.
    """

    engine: Engine
    identity: Mapping[str, Any]
    names: Mapping[str, str]
    versions: Mapping[str, int] = field(default_factory=dict)
    prompts: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of_folders(cls, engine: Engine, pipeline: str) -> "Deployment":
        """Everything that `engine` has, under its own names."""
        every = [*engine.models(), *engine.unavailable()]
        return cls(engine, {"pipeline": pipeline}, {name: name for name in every if name != BASE})

    def models(self, key: Key | None = None) -> dict[str, Mapping[str, Any]]:
        """What the engine says of each model that answers, `base` first. key: who asks."""
        held = self.engine.models()
        every = {BASE: BASE, **self.names}
        return {
            name: held[inner]
            for name, inner in every.items()
            if inner in held and (key is None or key.allows(name))
        }

    def unavailable(self, key: Key | None = None) -> dict[str, str]:
        """Why a model does not answer, by name."""
        told = self.engine.unavailable()
        reasons = dict(self.refused)
        reasons |= {name: told[inner] for name, inner in self.names.items() if inner in told}
        return {n: reason for n, reason in reasons.items() if key is None or key.allows(n)}

    def known(self, model: str, key: Key | None = None) -> Mapping[str, Any]:
        """What the engine says of `model`.

        Raises:
            RequestError: there is no such model, not for this key, or it is unavailable.
        """
        if key is None or key.allows(model):
            if (about := self._about(model)) is not None:
                return about
            if (reason := self._reason(model)) is not None:
                raise RequestError(
                    f"model '{model}' is unavailable: {reason}", "model", "model_unavailable"
                )
        known = ", ".join([*self.models(key), *self.unavailable(key)]) or "none for this key"
        raise RequestError(f"no model '{model}'; there are: {known}", "model", "model_not_found")

    def _about(self, model: str) -> Mapping[str, Any] | None:
        """As `models` has it."""
        there = model == BASE or model in self.names
        return self.engine.model(self.inner(model)) if there else None

    def _reason(self, model: str) -> str | None:
        """As `unavailable` has it."""
        told = self.engine.reason(self.names[model]) if model in self.names else None
        return told or self.refused.get(model)

    def inner(self, model: str) -> str:
        """What the engine calls `model`."""
        return self.names.get(model, BASE)

    def record(self, model: str, template: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a fingerprint of `model`'s answers stands for.

        Raises:
            RequestError: it has become unavailable meanwhile.
        """
        return {
            **self.identity,
            **({"versions": dict(self.versions)} if self.versions else {}),
            "base": self._placed(BASE),
            "adapter": self._placed(model) if model != BASE else None,
            "template": template,
            "engine": dict(self.engine.about()),
        }

    def _placed(self, name: str) -> dict[str, Any]:
        about, pipeline = self.known(name), self.identity["pipeline"]
        path = f"{pipeline}/base" if name == BASE else f"{pipeline}/adapters/{name}"
        placed = {**recorded(about), "name": name, "path": path, "version": self.versions.get(name)}
        if name in self.prompts:  # which /v1/classify renders, whatever is champion meanwhile
            placed["prompt"] = about["prompt"] | {"version": self.prompts[name]}
        return placed


class Current:
    """The deployment that new requests get, and how many still use each older one."""

    def __init__(self, deployment: Deployment) -> None:
        self._lock = threading.Lock()
        self._now = deployment
        self._users: dict[Deployment, int] = {deployment: 0}
        self._following = 0

    @property
    def now(self) -> Deployment:
        return self._now

    @contextmanager
    def used(self) -> Iterator[Deployment]:
        """The deployment of this moment, kept as long as it is used."""
        with self._lock:
            deployment = self._now
            self._users[deployment] += 1
        try:
            yield deployment
        finally:
            with self._lock:
                self._users[deployment] -= 1
            self._forget()

    @contextmanager
    def followed(self) -> Iterator[Deployment]:
        """The deployment of this moment, while the one that may follow it is made.

        Nothing is let go of within the block: the next one may go on with what an older one has.
        """
        with self._lock:
            self._following += 1
        try:
            yield self._now
        finally:
            with self._lock:
                self._following -= 1
            self._forget()

    def replace(self, deployment: Deployment) -> None:
        """Give it to new requests."""
        with self._lock:
            self._users.setdefault(deployment, 0)
            self._now = deployment
        self._forget()

    def _forget(self) -> None:
        """Let go of what only deployments served that nobody uses any more."""
        with self._lock:
            if self._following:
                return  # at the end of that
            idle = [d for d, users in self._users.items() if not users and d is not self._now]
            for deployment in idle:
                del self._users[deployment]
            held = {(id(d.engine), inner) for d in self._users for inner in d.names.values()}
            for deployment in idle:
                for inner in deployment.names.values():
                    if (id(deployment.engine), inner) not in held:
                        deployment.engine.remove(inner)
            engines = {id(d.engine) for d in self._users}
            unused = {id(d.engine): d.engine for d in idle if id(d.engine) not in engines}
        for engine in unused.values():
            # its batches end a step first, and this may be the event loop
            threading.Thread(target=engine.close, name="close").start()
