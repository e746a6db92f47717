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

import torch

from components.inference import adapter as adapters
from components.inference.adapter import Adapter
from components.inference.backend import pool_bytes
from components.inference.batcher import Batcher, Limits
from components.inference.checkpoint import Unsupported
from components.inference.threads import passing_crew
from components.inference.weights import Weights
from components.serving.engine import NOBODY, Caller
from components.serving.gone import Gone, Left
from components.serving.proof import Refused, about_adapter, prove_bytes

WEIGHTS = "*.safetensors"
PASSING = (OSError, MemoryError, torch.OutOfMemoryError)  # what the system lacks for a moment


@dataclass(eq=False)
class Version:
    """One version of an adapter. evaluation: its golden prompts' folder; about: as `Engine.models`
    tells it; reason: why it is refused.

    held, uses: what is in memory, proven, and how many requests use it or wait for it to be loaded.
    """

    name: str
    folder: Path
    evaluation: Path | None
    about: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    held: "Held | None" = None
    uses: int = 0
    loading: bool = False

    @property
    def content(self) -> str:
        return self.about["content"]

    @property
    def described(self) -> Mapping[str, Any]:
        return self.about["described"]

    @property
    def virtual_tokens(self) -> int:
        return self.described["settings"].get("virtual_tokens", 0)


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
        """prove: called with a version and what it holds before it may answer; raises where it must
        not.
        """
        self.home, self.budget, self._prove = home, budget, prove
        self._current: dict[str, Version] = {}
        self._loaded: OrderedDict[Version, int] = OrderedDict()  # bytes; used longest ago first
        self._changed = threading.Condition()
        self._open = True
        self.loads = self.evictions = self.refusals = 0

    def add(self, version: Version) -> None:
        """Serve `version` from now on.

        Raises:
            ValueError: another one answers under its name.
        """
        name, folder = version.name, version.folder
        try:
            version.about = about_adapter(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
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

    def find(self, name: str) -> Version | None:
        """What answers under `name`, or is refused; None where nothing was added."""
        with self._changed:
            return self._current.get(name)

    def bytes_of(self, version: Version) -> int:
        """What a version that is in use takes of the budget."""
        with self._changed:
            return self._loaded[version]

    @contextmanager
    def use(self, version: Version, caller: Caller = NOBODY) -> Iterator[Held]:
        """The version in memory, where it stays until the end of the block.

        Raises:
            Refused: it must not answer.
            Left: the caller has gone, while it waited for room.
        """
        with caller.gone.calls(self._wake):
            held = self._take(version, caller.gone)
        try:
            yield held
        finally:
            self._leave(version)

    def _take(self, version: Version, gone: Gone) -> Held:
        with self._changed:
            while version.loading:
                self._wait(gone)
            if version.reason is not None:
                raise Refused(version.reason)
            version.uses += 1
            if version.held is not None:
                self._loaded.move_to_end(version)
                return version.held
            version.loading = True
        try:
            with passing_crew():  # which reads and proves it
                version.held = self._load(version, gone)
            return version.held
        except BaseException:
            self._leave(version)
            raise
        finally:
            with self._changed:
                version.loading = False
                self._changed.notify_all()

    def _leave(self, version: Version) -> None:
        with self._changed:
            version.uses -= 1
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wait(self, gone: Gone) -> None:
        """Until something has changed."""
        if gone:
            raise Left
        self._changed.wait()

    def _load(self, version: Version, gone: Gone) -> Held:
        """Read and prove it; other versions are used meanwhile."""
        home, held = self.home, None
        try:
            prove_bytes(version.folder, version.about, home.content)
            on_disk = sum(path.stat().st_size for path in version.folder.rglob(WEIGHTS))
            with self._changed:
                self._make_room(version, on_disk, gone)
            read = adapters.read(version.folder, home.folder, home.weights)
            need = read.bytes  # more than on disk, where bfloat16 became float32
            if read.own is not None:
                need += pool_bytes(read.own, home.limits)
            with self._changed:
                self._make_room(version, need, gone)
                held = self._hold(version, read)
                self.loads += 1
            self._prove(version, held)
            self._require_open()
            return held
        except BaseException as error:
            with self._changed:
                self._loaded.pop(version, None)
                if held is not None:
                    self._let_go(held)
            if isinstance(error, Exception) and not isinstance(error, Left):
                raise self._refused(version, error) from error
            raise

    def _make_room(self, version: Version, need: int, gone: Gone) -> None:
        """Let idle versions go until this one has its bytes; wait while all are in use."""
        self._require_open()
        if need > self.budget:
            raise Refused(f"it needs {need} bytes; all adapters may have {self.budget}")
        self._loaded.pop(version, None)  # what it has so far is no longer enough, or too much
        most = self.home.limits.adapters
        while len(self._loaded) >= most or sum(self._loaded.values()) + need > self.budget:
            idle = next((other for other in self._loaded if not other.uses), None)
            if idle is None:
                self._wait(gone)
            else:
                self._drop(idle)
                self.evictions += 1
        self._loaded[version] = need

    def _require_open(self) -> None:
        if not self._open:
            raise RuntimeError("the engine was closed")

    def _refused(self, version: Version, error: Exception) -> Refused:
        """What `error` comes to. What the system lacked for a moment is tried again next time."""
        told = str(error)
        if not isinstance(error, (Refused, Unsupported, OSError, ValueError)):
            told = f"it cannot be loaded: {type(error).__name__}: {error}"
        with self._changed:
            self.refusals += 1
            if not isinstance(error, PASSING):
                version.reason = told
        return Refused(told)

    def _hold(self, version: Version, read: Adapter) -> Held:
        home = self.home
        batcher = home.batcher
        if read.own is not None:
            batcher = Batcher(read.own, home.limits, home.batcher.turns)
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
        self._let_go(held)

    def _let_go(self, held: Held) -> None:
        if held.slot:
            held.batcher.slots.drop(held.slot)
        if held.batcher is not self.home.batcher:
            held.batcher.close()

    def close(self) -> None:
        """End the batches of their own; what is just being loaded is refused."""
        with self._changed:
            self._open = False
            for version in self._loaded:
                held = version.held
                if held is not None and held.batcher is not self.home.batcher:
                    held.batcher.close()
