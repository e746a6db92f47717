"""The adapters of a base: which are served, which are in memory, and which must not answer.

served --(first request)--> read from disk, proven --> in memory, used by requests
    --(none uses it, room is short)--> served, to be read and proven again
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components.inference import adapter as adapters
from components.inference.adapter import Adapter
from components.inference.batcher import Batcher, Limits
from components.inference.checkpoint import Unsupported
from components.inference.weights import Weights
from components.lineage import content_of, read_json
from components.serving.proof import Refused

WEIGHTS = "*.safetensors"


@dataclass(eq=False)
class Version:
    """One version of an adapter. evaluation: its golden prompts' folder; reason: why it is refused.

    held, uses: what is in memory, and how many requests use it.
    """

    name: str
    folder: Path
    evaluation: Path | None
    described: Mapping[str, Any] = field(default_factory=dict)
    content: str = ""
    reason: str | None = None
    held: "Held | None" = None
    uses: int = 0
    loading: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def virtual_tokens(self) -> int:
        return self.described["settings"].get("virtual_tokens", 0)

    def about(self) -> dict[str, Any]:
        """As `Engine.models` tells it."""
        return {
            "content": self.content,
            "path": str(self.folder),
            "method": self.described["method"],
            "task": self.described["task"],
            "prompt": {key: self.described["prompt"][key] for key in ("name", "sha")},
        }


@dataclass(frozen=True)
class Held:
    """An adapter in memory. batcher: where its requests run; roots: a cache key by its members."""

    adapter: Adapter
    batcher: Batcher
    slot: int
    roots: tuple[bytes, ...]


@dataclass(frozen=True)
class Home:
    """The base that all of them share. content: its hash."""

    folder: Path
    content: str
    weights: Weights
    batcher: Batcher
    limits: Limits

    def root(self, content: str = "") -> bytes:
        """What cache keys begin with, for keys and values that `content` changed."""
        return hashlib.sha256(
            f"{self.content} {self.weights.precision} {content}".encode()
        ).digest()


class Shelf:
    """Adapters by name, within a budget of bytes."""

    def __init__(self, home: Home, budget: int, prove: Any) -> None:
        """prove: called with a version and what it holds before it may answer; raises `Refused`."""
        self.home, self.budget, self._prove = home, budget, prove
        self._current: dict[str, Version] = {}
        self._loaded: OrderedDict[Version, int] = OrderedDict()  # bytes; used longest ago first
        self._changed = threading.Condition()
        self.loads = self.evictions = self.refusals = 0

    def add(self, version: Version) -> None:
        """Serve `version` from now on.

        Raises:
            ValueError: another one answers under its name.
        """
        name, folder = version.name, version.folder
        try:
            version.described = read_json(folder / "adapter.json")
            version.content = content_of(folder)
        except (OSError, ValueError) as error:
            version.reason = f"{folder} is no adapter folder: {error}"
        with self._changed:
            if name in self._current and self._current[name].reason is None:
                raise ValueError(
                    f"'{name}' is served already; remove it, or add under another name"
                )
            self._current[name] = version

    def remove(self, name: str) -> None:
        """Serve it no more; requests that run end in peace."""
        with self._changed:
            self._current.pop(name, None)

    def versions(self) -> Mapping[str, Version]:
        with self._changed:
            return dict(self._current)

    def find(self, name: str) -> Version:
        """What answers under `name`.

        Raises:
            KeyError: nothing does.
        """
        with self._changed:
            return self._current[name]

    @contextmanager
    def use(self, version: Version) -> Iterator[Held]:
        """The version in memory, where it stays until the end of the block.

        Raises:
            Refused: it must not answer.
        """
        held = self._take(version)
        try:
            yield held
        finally:
            with self._changed:
                version.uses -= 1
                self._changed.notify_all()

    def _take(self, version: Version) -> Held:
        with version.loading:
            with self._changed:
                if version.reason is not None:
                    raise Refused(version.reason)
                if version.held is None:
                    self._make_room(version)
                version.uses += 1
                self._loaded.move_to_end(version)
            if version.held is None:
                self._load(version)
            return version.held

    def _make_room(self, version: Version) -> None:
        """Let idle versions go until this one fits; wait while all are in use."""
        need = sum(path.stat().st_size for path in version.folder.rglob(WEIGHTS))
        if need > self.budget:
            version.reason = f"it needs {need} bytes; all adapters may have {self.budget}"
            raise Refused(version.reason)
        most = self.home.limits.adapters
        while len(self._loaded) >= most or sum(self._loaded.values()) + need > self.budget:
            idle = next((other for other in self._loaded if not other.uses), None)
            if idle is None:
                self._changed.wait()
            else:
                self._drop(idle)
                self.evictions += 1
        self._loaded[version] = need

    def _load(self, version: Version) -> None:
        """Read and prove it; other versions are used meanwhile."""
        try:
            read = adapters.read(version.folder, self.home.folder, self.home.weights)
            with self._changed:
                version.held = self._hold(version, read)
                self._loaded[version] = read.bytes
                self.loads += 1
            self._prove(version, version.held)
        except (Unsupported, Refused, OSError, KeyError, ValueError) as error:
            with self._changed:
                self._drop(version)
                version.uses -= 1
                version.reason = str(error)
                self.refusals += 1
                self._changed.notify_all()
            raise Refused(version.reason) from error

    def _hold(self, version: Version, read: Adapter) -> Held:
        home = self.home
        batcher = home.batcher
        if read.own is not None:
            batcher = Batcher(read.own, home.limits, home.batcher.turn)
        slot = batcher.slots.put(read.delta) if read.delta else 0
        changed = version.content if read.own is not None or read.delta is not None else ""
        roots = tuple(
            home.root(f"{version.content} {number}" if member.count else changed)
            for number, member in enumerate(read.members)
        )
        return Held(replace(read, delta=None), batcher, slot, roots)  # the slot has it now

    def _drop(self, version: Version) -> None:
        held, version.held = version.held, None
        del self._loaded[version]
        if held is None:
            return
        if held.slot:
            held.batcher.slots.drop(held.slot)
        if held.batcher is not self.home.batcher:
            held.batcher.close()

    def close(self) -> None:
        with self._changed:
            for version in list(self._loaded):
                if version.held.batcher is not self.home.batcher:
                    version.held.batcher.close()
