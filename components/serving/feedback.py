"""What users say about answers: an append-only file from which nothing acknowledged is lost.

A line is one JSON object with a checksum of itself. It is on disk before its request is answered;
a line that a kill or a power cut tore was never acknowledged, and readers pass over it.
"""

import fcntl
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.lineage import value_hash

FILE = Path("feedback") / "feedback.jsonl"  # in a workspace
CHECK = "check"
CHECK_LENGTH = 16
REMEMBERED = 1 << 24  # characters of the last answers, in memory, for feedback that comes soon


class FeedbackStore:
    """The file at `path`; several servers may write to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def add(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Keep `record`, with the time; it is on disk when this returns."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        kept = {**record, "time": stamp}
        line = json.dumps(kept | {CHECK: _check(kept)}, ensure_ascii=True) + "\n"
        with self._lock:
            self._append(line.encode())
        return kept

    def _append(self, line: bytes) -> None:
        new = not self.path.exists()
        if new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # freed by close
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line  # behind a line that was torn
            while line:
                line = line[os.write(file, line) :]
            os.fsync(file)
        finally:
            os.close(file)
        if new:
            for folder in (self.path.parent, self.path.parent.parent):
                _sync_folder(folder)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every record that was acknowledged, in order; torn and altered lines are passed over."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            record = _whole(line)
            if record is not None:
                yield record


def _whole(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None where it is not as it was written."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    return record if record.pop(CHECK, None) == _check(record) else None


def _check(record: Mapping[str, Any]) -> str:
    return value_hash(record)[:CHECK_LENGTH]


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class Memory:
    """The texts of the last answers, so that feedback on one says what it was about."""

    def __init__(self, characters: int = REMEMBERED) -> None:
        """characters: how many to keep in all."""
        self._left = characters
        self._held: OrderedDict[str, tuple[dict[str, Any], int]] = OrderedDict()

    def keep(self, identity: str, asked: Any, answered: Any) -> None:
        texts = {"asked": asked, "answered": answered}
        size = len(json.dumps(texts, ensure_ascii=False))
        self._held[identity] = texts, size
        self._left -= size
        while self._left < 0:
            self._left += self._held.popitem(last=False)[1][1]

    def of(self, identity: str) -> dict[str, Any]:
        """`asked` and `answered`; both None of an answer that is too old."""
        return self._held.get(identity, ({"asked": None, "answered": None}, 0))[0]
