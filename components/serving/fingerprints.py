"""Fingerprints: what an answer was made with, as 16 digits that `kindling trace` explains."""

import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.lineage import value_hash, write_json

LENGTH = 16
IDENTITY = re.compile(r"^(?:fp_|[a-z]+-)?([0-9a-f]{16})(?:-[0-9a-f]+)?$")


class Fingerprints:
    """Writes each record once, before the first answer that bears its fingerprint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[str] = set()

    def of(self, record: Mapping[str, Any]) -> str:
        """The fingerprint of `record`; it is on disk when this returns."""
        digest = value_hash(record)[:LENGTH]
        if digest not in self._written:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / f"{digest}.json", record)
            self._written.add(digest)
        return digest


def answer_id(kind: str, digest: str) -> str:
    """An id for one answer: `cmpl`, `chatcmpl` or `cls`, the fingerprint, and what makes it one."""
    return f"{kind}-{digest}-{uuid.uuid4().hex[:12]}"


def digest_of(identity: str) -> str | None:
    """The fingerprint in a response id, a `system_fingerprint` or the bare digits."""
    found = IDENTITY.match(identity)
    return found[1] if found else None
