"""Locks that end with the process that holds them, and name it to whoever waits."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.1


class Held(RuntimeError):
    """Somebody else holds the lock; the message names the process."""


@contextmanager
def hold(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`, waiting up to `wait` seconds for it.

    An `flock` goes with its process, however that ends, so a lock is never stale.

    Raises:
        Held: another process kept it for the whole time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        _acquire(file, path, time.monotonic() + wait)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _acquire(file, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            # nobody: somebody only asked who holds it, or it was just let go
            if time.monotonic() >= deadline and (who := holder(path)) is not None:
                raise Held(
                    f"{path.stem} is held by {who}; wait until that has ended, or stop it"
                ) from None
            time.sleep(POLL_SECONDS)


def holder(path: Path) -> str | None:
    """Who holds `path`, as `process PID`; None where nobody does."""
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return path.read_text(encoding="utf-8") or "a process that just started"
    return None
