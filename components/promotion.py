"""Releases in the registry: what is promoted and rolled back as one.

A release is a base, adapters that fit it, and the prompt versions that they were made with.
Releases stand as numbered, unchanging tags on `PIPELINE.base`; the aliases `champion` point to the
members of the current one. Each names the one that it followed, so that what was rolled back can be
told from what was superseded.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict

from components.registry import CHAMPION, Registry, RegistryError
from components.releases import Release, line, rolled_back

RELEASE = "kindling.release"  # the current release's number; `kindling.release.N` holds release N
LEFT = "kindling.left"  # the numbers of the releases that rollbacks left
WHY = "kindling.rollback"  # `kindling.rollback.N` holds why each rollback left release N


class Releases:
    """The releases of one pipeline."""

    def __init__(self, store: Registry, pipeline: str) -> None:
        self.store, self.pipeline, self.base = store, pipeline, f"{pipeline}.base"

    def current(self) -> tuple[int, Release] | None:
        """The number and members of the release that is served; None before the first."""
        tags = self._tags()
        if RELEASE not in tags:
            return None
        number = int(tags[RELEASE])
        return number, Release(**json.loads(tags[f"{RELEASE}.{number}"]))

    def all(self) -> dict[int, Release]:
        """Every release, by number."""
        prefix = f"{RELEASE}."
        tags = self._tags()
        numbered = {int(k.removeprefix(prefix)): v for k, v in tags.items() if k.startswith(prefix)}
        return {number: Release(**json.loads(text)) for number, text in sorted(numbered.items())}

    def promote(self, release: Release) -> int:
        """Make `release` the current one, under a new number; return the number.

        The record is written before any alias moves, so that a killed promotion is finished by
        doing it again.
        """
        number = max(self.all(), default=0) + 1
        current = self.current()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        stamped = asdict(release) | {"time": stamp, "follows": current[0] if current else 0}
        self._tag(f"{RELEASE}.{number}", json.dumps(stamped))
        self._point(number, release)
        return number

    def rollback(self, number: int | None = None, reason: str = "") -> tuple[int, Release]:
        """Go back to release `number`, or to the one that the current one followed. reason: kept
        with the one that is left, if there is any.

        Raises:
            RegistryError: there is no such release.
        """
        known = self.all()
        current = self.current()
        wanted = number if number is not None else (current[1].follows if current else 0)
        if wanted not in known:
            missing = "release before the current one" if number is None else f"release {number}"
            raise RegistryError(
                f"pipeline '{self.pipeline}' has no {missing}; it has "
                f"{', '.join(map(str, known)) or 'none'} ('kindling registry list' shows them)"
            )
        if current:
            left = self._left() | line(known, current[0])
            self._tag(LEFT, json.dumps(sorted(left)))
            if reason:
                self._tag(f"{WHY}.{current[0]}", json.dumps([*self.left(current[0]), reason]))
        self._point(wanted, known[wanted])
        return wanted, known[wanted]

    def left(self, number: int) -> list[str]:
        """Why release `number` was left by rollbacks, as far as somebody said so."""
        return json.loads(self._tags().get(f"{WHY}.{number}", "[]"))

    def rolled_back(self, adapter: str, version: int) -> int | None:
        """The release with this version that was rolled back; None where it was not."""
        number = int(self._tags().get(RELEASE, 0))
        return rolled_back(self.all(), number, self._left(), adapter, version)

    def _left(self) -> set[int]:
        return set(json.loads(self._tags().get(LEFT, "[]")))

    def _tags(self) -> Mapping[str, str]:
        return self.store.tags(self.base)

    def _tag(self, key: str, text: str) -> None:
        self.store.client.set_registered_model_tag(self.base, key, text)

    def _point(self, number: int, release: Release) -> None:
        client, previous = self.store.client, self.current()
        dropped = set(previous[1].adapters) - set(release.adapters) if previous else set()
        for name in dropped:
            client.delete_registered_model_alias(f"{self.pipeline}.{name}", CHAMPION)
        members = {"base": release.base, **release.adapters}
        for name, version in members.items():
            client.set_registered_model_alias(f"{self.pipeline}.{name}", CHAMPION, str(version))
        for name, version in release.prompts.items():
            client.set_prompt_alias(name, CHAMPION, version)
        self._tag(RELEASE, str(number))
