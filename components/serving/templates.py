"""Prompt templates by name, version and alias, for requests that name one."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from components.lineage import read_json, text_hash
from components.prompts import variables_of
from components.registry import CHAMPION, Registry
from components.serving.engine import RequestError

log = logging.getLogger("kindling.server")
FRESH_SECONDS = 2.0  # an alias that moves is seen within this time


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


class RegistryTemplates:
    """Templates of MLflow's prompt registry, read again when they are some seconds old."""

    def __init__(self, registry: Registry, names: Sequence[str]) -> None:
        self._registry, self._names = registry, tuple(names)
        self._read: dict[str, tuple[float, list[Template]]] = {}

    def names(self) -> Sequence[str]:
        return self._names

    def versions(self, name: str) -> Sequence[Template]:
        if name not in self._names:
            return []
        read, found = self._read.get(name, (0.0, []))
        if time.monotonic() - read > FRESH_SECONDS or not found:
            found = self._fetched(name, found)
            self._read[name] = (time.monotonic(), found)
        return found

    def _fetched(self, name: str, before: list[Template]) -> list[Template]:
        """What the registry says; what it said `before` where it does not answer."""
        try:
            return [
                Template(name, int(v.version), v.template, tuple(sorted(v.aliases or ())))
                for v in self._registry.prompt_versions(name)
            ]
        except Exception as error:  # of any store: a network, a database, a disk
            log.warning("the prompt registry does not answer", exc_info=error)
            if before:
                return before
            raise RequestError(
                f"the registry does not answer, and template '{name}' was not read yet",
                "template.id",
                "registry_unavailable",
                FRESH_SECONDS,
            ) from None


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
