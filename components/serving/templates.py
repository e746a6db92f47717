"""Prompt templates by name, version and alias, for requests that name one."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from components.lineage import read_json, text_hash
from components.prompts import variables_of
from components.registry import CHAMPION, Registry
from components.serving.engine import RequestError

log = logging.getLogger("kindling.server")
FRESH_SECONDS = 2.0  # an alias that moves is seen within this time
FIRST_SECONDS = 10.0  # for the registry to tell a template of which nothing was read yet
AGAIN_SECONDS = 1.0  # for it to tell one again, before what it told last is used


@dataclass(frozen=True)
class Template:
    """One version of a prompt."""

    id: str
    version: int
    text: str
    aliases: tuple[str, ...] = ()

    def content(self) -> dict:
        """What shapes an answer; aliases do not, they move from one version to another."""
        return {
            "id": self.id,
            "version": self.version,
            "template": self.text,
            "variables": variables_of(self.text),
            "sha": text_hash(self.text),
        }

    def described(self) -> dict:
        return self.content() | {"aliases": list(self.aliases)}


class Templates(Protocol):
    """Where templates come from."""

    def versions(self, name: str) -> Sequence[Template]:
        """All versions of a template, oldest first; none of an unknown name."""

    def names(self) -> Sequence[str]: ...


def find(templates: Templates, name: str, version: int | str | None) -> Template:
    """A version by number or alias; without either the champion, else the newest.

    Raises:
        RequestError: there is no such template or version; the message names those there are.
    """
    versions = templates.versions(name)
    if not versions:
        known = ", ".join(templates.names()) or "none"
        raise RequestError(f"no template '{name}'; there are: {known}", "template.id", "not_found")
    for template in versions:
        if str(version) == str(template.version) or version in template.aliases:
            return template
    if version is None:
        champions = [template for template in versions if CHAMPION in template.aliases]
        return (champions or list(versions))[-1]
    known = ", ".join(
        f"{t.version}{' (' + ', '.join(t.aliases) + ')' if t.aliases else ''}" for t in versions
    )
    raise RequestError(
        f"template '{name}' has no version {version!r}; it has {known}",
        "template.version",
        "not_found",
    )


@dataclass
class _Reading:
    """One question to the registry. found: what it says; None where it does not answer."""

    began: float = field(default_factory=time.monotonic)
    ended: threading.Event = field(default_factory=threading.Event)
    found: list[Template] | None = None


class RegistryTemplates:
    """Templates of MLflow's prompt registry, read again when they are some seconds old.

    A registry that is away may answer after minutes, and every request has a thread that waits. So
    a thread of its own asks, one for each name, and who wants to know waits for it so long and no
    longer.
    """

    def __init__(self, registry: Registry, names: Sequence[str]) -> None:
        self._registry, self._names = registry, tuple(names)
        self._lock = threading.Lock()
        self._read: dict[str, tuple[float, list[Template]]] = {}
        self._readings: dict[str, _Reading] = {}  # those at work

    def names(self) -> Sequence[str]:
        return self._names

    def versions(self, name: str) -> Sequence[Template]:
        """What the registry says; what it said before where it does not answer.

        Raises:
            RequestError: it does not answer, and has said nothing before.
        """
        if name not in self._names:
            return []
        read, before = self._read.get(name, (0.0, []))
        if before and time.monotonic() - read <= FRESH_SECONDS:
            return before
        reading = self._reading(name)
        patience = AGAIN_SECONDS if before else FIRST_SECONDS
        reading.ended.wait(reading.began + patience - time.monotonic())
        if reading.found is not None:
            return reading.found
        if before:
            return before
        raise RequestError(
            f"the registry does not answer, and template '{name}' was not read yet",
            "template.id",
            "registry_unavailable",
            FRESH_SECONDS,
        )

    def _reading(self, name: str) -> _Reading:
        """The reading at work, which all who wait share; a new one where there is none."""
        with self._lock:
            if (reading := self._readings.get(name)) is None:
                reading = _Reading()
                # a daemon: the process must not wait for a registry at its end
                threading.Thread(target=self._fetch, args=(name, reading), daemon=True).start()
                self._readings[name] = reading
            return reading

    def _fetch(self, name: str, reading: _Reading) -> None:
        try:
            reading.found = [
                Template(name, int(v.version), v.template, tuple(sorted(v.aliases or ())))
                for v in self._registry.prompt_versions(name)
            ]
        except Exception as error:  # of any store: a network, a database, a disk
            log.warning("the prompt registry does not answer", exc_info=error)
        with self._lock:
            _, before = self._read.get(name, (0.0, []))
            found = before if reading.found is None else reading.found
            self._read[name] = time.monotonic(), found
            del self._readings[name]
        reading.ended.set()


class FolderTemplates:
    """The templates that adapter folders were made with; wordings of one prompt are its versions,
    in the order of `adapters`.
    """

    def __init__(self, adapters: Mapping[str, Path]) -> None:
        self._found: dict[str, list[Template]] = {}
        for folder in adapters.values():
            prompt = read_json(folder / "adapter.json")["prompt"]
            name, text = prompt["name"], prompt["template"]
            known = self._found.setdefault(name, [])
            if all(template.text != text for template in known):
                known.append(Template(name, len(known) + 1, text))

    def names(self) -> Sequence[str]:
        return tuple(self._found)

    def versions(self, name: str) -> Sequence[Template]:
        return self._found.get(name, [])
