"""What the registry's aliases point to, as something to serve; asked again while it is served."""

import logging
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
from flows.registry import registry, workspace_name

log = logging.getLogger("kindling.server")
GOLDEN = "golden.json"  # of an evaluation: what the adapter must answer when it is loaded
SETTLING_SECONDS = 0.5  # a promotion moves one alias after another


@dataclass(frozen=True)
class Pointed:
    """The registered versions behind an alias: of the base, and of the adapters that fit it.

    misfits: why each other adapter does not.
    """

    base: int
    adapters: Mapping[str, int]
    misfits: Mapping[str, str]


@dataclass(frozen=True)
class _Told:
    """What the registry says of a version: its prompt's version, and what its evaluation found."""

    prompt: int
    score: Mapping[str, Any]


class Registered:
    """What a pipeline's models with one alias are, now and after it has moved."""

    def __init__(self, workspace: Path, pipeline: str, alias: str) -> None:
        """Raises:
        RegistryError: there is no such pipeline.
        """
        known = load(workspace, check_files=False).pipelines
        if pipeline not in known:
            raise RegistryError(f"no pipeline '{pipeline}'{suggestion(pipeline, known)}")
        self.workspace, self.pipeline, self.alias = workspace, pipeline, alias
        self.store: Registry = registry(workspace)
        self._commit = evidence.commit(workspace)
        self._served: Pointed | None = None
        self._missed = False  # whether some of it is to be tried again
        self._told: dict[str, _Told] = {}  # by what the engine calls a version

    def pointed(self) -> Pointed:
        """What the alias points to at this moment.

        Raises:
            RegistryError: nothing is registered.
            RegistryAway: the registry does not answer.
        """
        found = self.store.alias(f"{self.pipeline}.base", self.alias)
        if found is None and self.alias == CHAMPION:
            # nothing has passed a gate: the base alone is still worth talking to
            found = self.store.alias(f"{self.pipeline}.base", CANDIDATE)
        if found is None:
            raise RegistryError(self._unknown())
        base, adapters, misfits = int(found.version), {}, {}
        for name in load(self.workspace, check_files=False).adapters_of(self.pipeline):
            version = self.store.alias(f"{self.pipeline}.{name}", self.alias)
            if version is None:
                continue
            if (own := int(version.tags["kindling.base"])) == base:
                adapters[name] = int(version.version)
            else:
                misfits[name] = (
                    f"version {version.version} was trained on version {own} of the base, and "
                    f"version {base} is served; run 'kindling run {self.pipeline}'"
                )
        return Pointed(base, adapters, misfits)

    def _unknown(self) -> str:
        """What to say of an alias that the base does not have."""
        said = f"the registry has no '{self.pipeline}.base' with alias '{self.alias}'"
        if aliases := self.store.aliases(f"{self.pipeline}.base"):
            likely = suggestion(self.alias, aliases)
            return f"{said}{likely}; 'kindling registry list' shows what its aliases point to"
        return (
            f"{said}; run 'kindling register {self.pipeline}', or 'kindling run {self.pipeline}' "
            "if nothing was made yet"
        )

    def look(self, now: Deployment) -> Deployment | None:
        """What to serve instead of `now`, loaded; None where there is nothing else."""
        pointed = self.pointed()
        moved = pointed != self._served
        if moved:
            time.sleep(SETTLING_SECONDS)
            if self.pointed() != pointed:
                return None  # on the move: look again next time
        elif not self._missed:
            return None
        found = self.deploy(pointed, now)
        return found if moved or found.refused != now.refused else None

    def deploy(self, pointed: Pointed, before: Deployment | None = None) -> Deployment:
        """Load `pointed`. before: what is served, whose engine goes on where its base does.

        An adapter that cannot be had is refused alone, and tried again at the next look, unless
        the registry has it and it is not what was registered.
        """
        goes_on = before is not None and before.versions[BASE] == pointed.base
        engine = before.engine if goes_on else self._engine(pointed.base)
        try:
            found = self._deployment(engine, pointed)
            warm(engine, wait=before is not None)
        except BaseException:
            if not goes_on:
                engine.close()
            raise
        self._served = pointed
        return found

    def _engine(self, version: int) -> Engine:
        base = self.store.folder(f"{self.pipeline}.base", version)
        return engine_of(base, serving=load(self.workspace, check_files=False).serving)

    def _deployment(self, engine: Engine, pointed: Pointed) -> Deployment:
        names, refused = {}, dict(pointed.misfits)
        self._missed = False
        for name, version in pointed.adapters.items():
            inner = f"{name}@{version}"
            try:
                self._add(engine, name, version, inner)
                names[name] = inner
            except Exception as error:  # of a store, a network, a disk or a library
                refused[name] = str(error)
                self._missed |= not isinstance(error, RegistryError)
                log.warning("%s is not served", inner, exc_info=error)
        return Deployment(
            engine=engine,
            identity=identity(self.workspace, self.pipeline, self._commit),
            names=names,
            versions={BASE: pointed.base, **pointed.adapters},
            prompts={name: self._told[inner].prompt for name, inner in names.items()},
            refused=refused,
            scores={name: self._told[inner].score for name, inner in names.items()},
        )

    def _add(self, engine: Engine, name: str, version: int, inner: str) -> None:
        called = f"{self.pipeline}.{name}"
        if inner not in self._told:  # what it was registered with never changes
            tags = self.store.client.get_model_version(called, str(version)).tags
            prompt = int(tags["kindling.prompt_version"])
            self._told[inner] = _Told(prompt, _score(self.store.records(called, version)))
        if engine.model(inner) is not None or engine.reason(inner) is not None:
            return
        records = self.store.records(called, version)
        golden = records if (records / GOLDEN).is_file() else None
        engine.add(inner, self.store.folder(called, version), golden)


def _score(records: Path) -> dict[str, Any]:
    """What the evaluation registered with a version found."""
    path = records / "metrics.json"
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
