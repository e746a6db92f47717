"""What the registry's aliases point to, as something to serve; asked again while it is served."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.catalogue import load, suggestion
from components.lineage import read_json
from components.registry import CANDIDATE, CHAMPION, Registry, RegistryError
from components.serving import logs
from components.serving.deployment import Deployment
from components.serving.engine import BASE, Engine
from components.serving.engines import engine_of
from flows import evidence
from flows.release import registry, workspace_name

GOLDEN = "golden.json"  # of an evaluation: what the adapter must answer when it is loaded
SETTLING_SECONDS = 0.5  # a promotion moves one alias after another


@dataclass(frozen=True)
class Pointed:
    """The registered versions behind an alias: of the base, and of the adapters that fit it."""

    base: int
    adapters: Mapping[str, int]


class Registered:
    """What a pipeline's models with one alias are, now and after it has moved."""

    def __init__(self, workspace: Path, pipeline: str, alias: str) -> None:
        """Raises:
        RegistryError: there is no such pipeline.
        """
        known = load(workspace).pipelines
        if pipeline not in known:
            raise RegistryError(f"no pipeline '{pipeline}'{suggestion(pipeline, known)}")
        self.workspace, self.pipeline, self.alias = workspace, pipeline, alias
        self.store: Registry = registry(workspace)
        self._commit = evidence.commit(workspace)
        self._served: Pointed | None = None

    def pointed(self) -> Pointed:
        """What the alias points to at this moment.

        Raises:
            RegistryError: nothing is registered.
        """
        found = self.store.alias(f"{self.pipeline}.base", self.alias)
        if found is None and self.alias == CHAMPION:
            # nothing has passed a gate: the base alone is still worth talking to
            found = self.store.alias(f"{self.pipeline}.base", CANDIDATE)
        if found is None:
            raise RegistryError(
                f"the registry has no '{self.pipeline}.base' with alias '{self.alias}'; run "
                f"'kindling register {self.pipeline}', or 'kindling run {self.pipeline}' if "
                "nothing was made yet"
            )
        adapters = {}
        for name in load(self.workspace, check_files=False).adapters_of(self.pipeline):
            version = self.store.alias(f"{self.pipeline}.{name}", self.alias)
            if version is not None and int(version.tags["kindling.base"]) == int(found.version):
                adapters[name] = int(version.version)
        return Pointed(int(found.version), adapters)

    def look(self, now: Deployment) -> Deployment | None:
        """What to serve instead of `now`, loaded; None where nothing has moved."""
        pointed = self.pointed()
        if pointed == self._served:
            return None
        time.sleep(SETTLING_SECONDS)
        if self.pointed() != pointed:
            return None  # on the move: look again next time
        return self.deploy(pointed, now)

    def deploy(self, pointed: Pointed, before: Deployment | None = None) -> Deployment:
        """Load `pointed`. before: what is served, whose engine goes on where its base does."""
        if before is not None and before.versions[BASE] == pointed.base:
            engine = before.engine
        else:
            base = self.store.folder(f"{self.pipeline}.base", pointed.base)
            limits = load(self.workspace).serving
            engine = engine_of(base, precision=limits.precision, device=limits.device)
        names, refused = {}, {}
        for name, version in pointed.adapters.items():
            inner = f"{name}@{version}"
            try:
                self._add(engine, name, version, inner)
                names[name] = inner
            except (RegistryError, OSError) as error:
                refused[name] = str(error)
        warm(engine, wait=before is not None)
        self._served = pointed
        versions = {BASE: pointed.base, **pointed.adapters}
        tags = {n: self._tags(n, version) for n, version in pointed.adapters.items()}
        return Deployment(
            engine=engine,
            identity=identity(self.workspace, self.pipeline, self._commit),
            names=names,
            versions=versions,
            prompts={n: int(held["kindling.prompt_version"]) for n, held in tags.items()},
            refused=refused,
            scores={n: self._score(n, version) for n, version in pointed.adapters.items()},
        )

    def _add(self, engine: Engine, name: str, version: int, inner: str) -> None:
        if inner in engine.models() or inner in engine.unavailable():
            return
        called = f"{self.pipeline}.{name}"
        records = self.store.records(called, version)
        golden = records if (records / GOLDEN).is_file() else None
        engine.add(inner, self.store.folder(called, version), golden)

    def _tags(self, name: str, version: int) -> Mapping[str, str]:
        return self.store.client.get_model_version(f"{self.pipeline}.{name}", str(version)).tags

    def _score(self, name: str, version: int) -> dict[str, Any]:
        """What the evaluation registered with a version found."""
        path = self.store.records(f"{self.pipeline}.{name}", version) / "metrics.json"
        if not path.is_file():
            return {}
        found = read_json(path)
        return {key: found[key] for key in ("metric", "score", "interval") if key in found}


def warm(engine: Engine, wait: bool) -> None:
    """Let `engine` load its adapters. wait: until it has, and requests are answered meanwhile."""
    if wait:
        _load(engine)
    else:
        threading.Thread(target=_load, args=(engine,), name="warm", daemon=True).start()


def _load(engine: Engine) -> None:
    """Load what fits, and log which adapters proved unfit: nobody may ask them for a long time."""
    known = engine.unavailable()
    engine.warm()
    for name, reason in engine.unavailable().items():
        if name not in known:
            logs.log.warning("unavailable: %s: %s", name, reason)


def identity(workspace: Path, pipeline: str, commit: str) -> dict[str, str]:
    """What every fingerprint of this server has in common."""
    return {"pipeline": pipeline, "workspace": workspace_name(workspace), "commit": commit}
