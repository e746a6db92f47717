"""API keys: who may ask which models, and how often. A key is shown once and kept as its hash."""

import hashlib
import ipaddress
import math
import re
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import Field, TypeAdapter

from components.block import Block
from components.lineage import read_json, write_json
from components.locks import hold

FILE = Path(".kindling") / "keys.json"  # in a workspace
PREFIX = "kd-"
NAME = re.compile(r"^[\w.-]{1,64}$")
SECRET_BYTES = 32  # so many random bits that a fast hash can be neither inverted nor guessed


class KeyFileError(ValueError):
    """The keys are not what was asked for; the message names them and the next command."""


class Key(Block):
    """What is kept of a key. models: those it may ask, None for all. sha256: of the key itself."""

    name: str = Field(min_length=1, max_length=64, pattern=NAME.pattern)
    sha256: str
    models: list[str] | None = None
    requests_per_minute: int | None = Field(default=None, ge=1)
    created: str

    def allows(self, model: str) -> bool:
        return self.models is None or model in self.models


class Keys:
    """The keys of one file, read again when it changes: a revoked key ends at once.

    always: keys are asked for even where none was ever made. Otherwise anybody may ask until the
    first; whoever revokes the last one does not mean to let everybody in.
    """

    def __init__(self, path: Path, always: bool = False) -> None:
        self.path, self._always = path, always
        self._stamp: tuple[int, int] | None = None
        self._by_hash: dict[str, Key] = {}

    def all(self) -> list[Key]:
        """Every key, the oldest first.

        Raises:
            KeyFileError: the file is not one that `add` wrote.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._stamp, self._by_hash = None, {}
            return []
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self._stamp:
            try:
                read = TypeAdapter(list[Key]).validate_python(read_json(self.path)["keys"])
            except (ValueError, KeyError, TypeError) as error:
                raise KeyFileError(
                    f"{self.path} is no file of keys ({error}); move it away and make keys anew "
                    "with 'kindling keys add NAME'"
                ) from None
            self._stamp, self._by_hash = stamp, {key.sha256: key for key in read}
        return list(self._by_hash.values())

    def required(self) -> bool:
        """Whether a request needs a key."""
        return self._always or self.path.exists()

    def find(self, presented: str) -> Key | None:
        """The key that `presented` is."""
        self.all()
        return self._by_hash.get(_hash(presented))

    def add(self, name: str, models: Sequence[str] | None, per_minute: int | None) -> str:
        """Make a key; return it, for the only time.

        Raises:
            KeyFileError: there is a key of that name, or it is no name.
        """
        with self._alone():
            return self._add(name, models, per_minute)

    def _add(self, name: str, models: Sequence[str] | None, per_minute: int | None) -> str:
        known = self.all()
        if any(key.name == name for key in known):
            raise KeyFileError(
                f"there is a key '{name}'; revoke it first ('kindling keys revoke {name}'), or "
                "name another"
            )
        if not NAME.fullmatch(name):
            raise KeyFileError(
                f"'{name}' is no name for a key: take up to 64 letters, digits, '_', '-' and '.'"
            )
        made = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        key = Key(
            name=name,
            sha256=_hash(made),
            models=list(models) if models is not None else None,
            requests_per_minute=per_minute,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        self._write([*known, key])
        return made

    def revoke(self, name: str) -> None:
        """End a key.

        Raises:
            KeyFileError: there is none of that name.
        """
        with self._alone():
            known = self.all()
            left = [key for key in known if key.name != name]
            if len(left) == len(known):
                names = ", ".join(key.name for key in known) or "none"
                raise KeyFileError(f"no key '{name}'; there are: {names}")
            self._write(left)

    def _alone(self) -> AbstractContextManager[None]:
        """Read, change and write while no other process does: the later one would undo the other's
        change, and bring a revoked key back.
        """
        return hold(self.path.with_suffix(".lock"), wait=math.inf)

    def _write(self, keys: Sequence[Key]) -> None:
        write_json(self.path, {"keys": [key.model_dump() for key in keys]}, mode=0o600)


def is_loopback(host: str) -> bool:
    """Whether a name or an address of a server is one that other machines cannot reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Rates:
    """How often each key may ask: a bucket that holds a minute's requests and fills steadily."""

    def __init__(self, per_minute: int) -> None:
        """per_minute: of a key that has no rate of its own."""
        self._default = per_minute
        self._left: dict[str, tuple[float, float]] = {}  # by key: requests left, and when
        self._lock = threading.Lock()

    def wait(self, key: Key, now: float) -> float:
        """Take a request of `key` at `now` (monotonic seconds): 0, or the seconds until there is
        one to take.
        """
        size = key.requests_per_minute or self._default
        with self._lock:
            left, when = self._left.get(key.sha256, (float(size), now))
            left = min(size, left + (now - when) * size / 60)
            self._left[key.sha256] = (left - 1 if left >= 1 else left, now)
        return 0.0 if left >= 1 else (1 - left) * 60 / size


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
