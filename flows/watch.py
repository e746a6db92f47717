"""What the registry's alias names, and how a running server follows it when it moves."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.catalogue import load, suggestion
from components.registry import CANDIDATE, CHAMPION, RegistryError
from flows.release import registry

if TYPE_CHECKING:
    from components.serving.batched_engine import BatchedEngine

SECONDS = 5.0  # between two looks


class ServeError(ValueError):
    """What was asked for cannot be served; the message names the next command."""


@dataclass(frozen=True)
class Placed:
    """An adapter's folder, its evaluation's, and the numbers of its version and its prompt's."""

    folder: Path
    evaluation: Path | None = None
    registered: dict[str, int] = field(default_factory=dict)


class Watch:
    """The base and adapters of one pipeline that an alias names."""

    def __init__(self, workspace: Path, pipeline: str, alias: str) -> None:
        """Read them once.

        Raises:
            ServeError: there is no such pipeline.
            RegistryError: the registry lacks its base.
        """
        self.catalogue = load(workspace)
        if pipeline not in self.catalogue.pipelines:
            known = suggestion(pipeline, self.catalogue.pipelines)
            raise ServeError(f"no pipeline '{pipeline}'{known}")
        self.store, self.pipeline, self.alias = registry(workspace), pipeline, alias
        self.version = self._base_version()
        self.base = self.store.folder(f"{pipeline}.base", self.version)
        self._seen = self._versions()
        self.placed = {name: self._placed(name, found) for name, found in self._seen.items()}

    def _base_version(self) -> int:
        name = f"{self.pipeline}.base"
        found = self.store.alias(name, self.alias)
        if found is None and self.alias == CHAMPION:
            # nothing has passed a gate: the base alone is still worth talking to
            found = self.store.alias(name, CANDIDATE)
            print(
                f"no adapter of {self.pipeline} was promoted; serving the base "
                "(--alias candidate: all)"
            )
        if found is None:
            raise RegistryError(
                f"the registry has no '{name}' with alias '{self.alias}'; run 'kindling register "
                f"{self.pipeline}', or 'kindling run {self.pipeline}' if nothing was made yet"
            )
        return int(found.version)

    def _versions(self) -> dict[str, Any]:
        """The versions that the alias names, of those on this base, by adapter."""
        named = {
            name: self.store.alias(f"{self.pipeline}.{name}", self.alias)
            for name in self.catalogue.adapters_of(self.pipeline)
        }
        return {
            name: found
            for name, found in named.items()
            if found is not None and int(found.tags["kindling.base"]) == self.version
        }

    def _placed(self, name: str, found: Any) -> Placed:
        spoken, number = f"{self.pipeline}.{name}", int(found.version)
        judged = self.store.records(spoken, number)
        return Placed(
            self.store.folder(spoken, number),
            judged if (judged / "golden.json").is_file() else None,
            {"version": number, "prompt": int(found.tags["kindling.prompt_version"])},
        )

    def follow(self, engine: "BatchedEngine") -> None:
        """Give `engine` what the alias names from now on, from a thread of its own."""
        threading.Thread(target=self._follow, args=(engine,), name="watch", daemon=True).start()

    def _follow(self, engine: "BatchedEngine") -> None:
        while True:
            time.sleep(SECONDS)
            try:
                self.look(engine)
            except Exception as error:  # the registry is away: what is served stays
                print(f"the registry could not be read: {error}", flush=True)

    def look(self, engine: "BatchedEngine") -> None:
        """Add, replace and remove what has moved since the last look."""
        found = self._versions()
        for name, version in found.items():
            before = self._seen.get(name)
            if before is None or before.version != version.version:
                placed = self._placed(name, version)
                engine.add(name, placed.folder, placed.evaluation, placed.registered)
                print(f"{name}: version {version.version} from now on", flush=True)
        for name in self._seen.keys() - found.keys():
            engine.remove(name)
            print(f"{name}: served no more", flush=True)
        self._seen = found
