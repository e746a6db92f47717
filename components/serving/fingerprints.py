"""Fingerprints: what an answer was made with, as 16 digits that `kindling trace` explains."""

import hashlib
import hmac
import os
import re
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.lineage import read_json, value_hash, write_json

FOLDER = "fingerprints"  # in a workspace
LENGTH = 16
SEAL = "answers.key"  # beside the records
HALF = 12  # digits of what makes an id one, and of the seal on it
IDENTITY = re.compile(r"^(?:fp_|[a-z]+-)?([0-9a-f]{16})(?:-[0-9a-f]+)?$")
ANSWER = re.compile(rf"^([a-z]+-[0-9a-f]{{16}}-[0-9a-f]{{{HALF}}})([0-9a-f]{{{HALF}}})$")


class Fingerprints:
    """Writes each record once, before the first answer that bears its fingerprint.

    An answer's id is sealed: that this server, or an earlier one of the same folder, gave it can be
    told from the id alone, so nothing grows with the number of answers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[str] = set()
        self._secret: bytes | None = None
        self._turn = threading.Lock()  # answers are made in many threads, and files by process

    def of(self, record: Mapping[str, Any]) -> str:
        """The fingerprint of `record`; it is on disk when this returns."""
        digest = value_hash(record)[:LENGTH]
        with self._turn:
            if digest not in self._written:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_json(self.folder / f"{digest}.json", record)
                self._written.add(digest)
        return digest

    def record(self, digest: str) -> dict[str, Any] | None:
        """What a fingerprint stands for; None where no answer had it."""
        path = self.folder / f"{digest}.json"
        return read_json(path) if path.is_file() else None

    def answer_id(self, kind: str, digest: str) -> str:
        """An id for one answer: `cmpl`, `chatcmpl` or `cls`, the fingerprint, and what makes it
        one.
        """
        said = f"{kind}-{digest}-{secrets.token_hex(HALF // 2)}"
        return said + self._seal(said)

    def gave(self, identity: str) -> bool:
        """Whether `identity` is the id of an answer that was given here."""
        found = ANSWER.match(identity)
        return bool(found) and hmac.compare_digest(found[2], self._seal(found[1]))

    def given(self, identity: str) -> str | None:
        """As `digest_of`; None where `identity` has the form of an answer's id, but no server of
        this folder gave it.
        """
        forged = ANSWER.match(identity) and not self.gave(identity)
        return None if forged else digest_of(identity)

    def _seal(self, said: str) -> str:
        with self._turn:
            self._secret = self._secret or _secret(self.folder)
        return hmac.new(self._secret, said.encode(), hashlib.sha256).hexdigest()[:HALF]


def _secret(folder: Path) -> bytes:
    """The folder's own, made when it is first needed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SEAL
    if not path.exists():
        made = path.with_name(f".{SEAL}.{os.getpid()}")
        made.touch(0o600)
        made.write_bytes(secrets.token_bytes(32))
        with suppress(FileExistsError):  # another server was faster: its secret counts
            os.link(made, path)
        made.unlink()
    return path.read_bytes()


def digest_of(identity: str) -> str | None:
    """The fingerprint in a response id, a `system_fingerprint` or the bare digits."""
    found = IDENTITY.match(identity)
    return found[1] if found else None
