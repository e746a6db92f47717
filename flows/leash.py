"""A stage dies with the processes that started it.

Without this, `kill -9` of `dvc repro` leaves its child at work; the next `dvc repro` deletes the
output, starts a second child, and the mixture of both is cached as the result.
"""

import os
import signal
import threading
import time

import psutil

from flows import settings

POLL_SECONDS = 0.25
GRACE_SECONDS = 3.0  # nothing else of a stage needs a farewell: its results appear by a rename


def masters() -> list[int]:
    """The ids of the processes whose end must end this one: DVC, the shell it starts, the flow."""
    found = settings.masters()
    if found:
        return found
    if settings.dvc_started_us():
        for parent in psutil.Process().parents()[:3]:
            found.append(parent.pid)
            if any("dvc" in word for word in parent.cmdline()[:3]):
                break
    flow = settings.flow_pid()
    if flow is not None:
        found.append(flow)
    return found


def tie() -> None:
    """Watch `masters` from a thread and end this process within seconds of their end."""
    try:
        watched = [psutil.Process(pid) for pid in masters()]
    except psutil.NoSuchProcess:
        os.kill(os.getpid(), signal.SIGKILL)
    if watched:
        threading.Thread(target=_watch, args=(watched,), daemon=True).start()


def _watch(watched: list[psutil.Process]) -> None:
    while all(_alive(process) for process in watched):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)  # a training writes a checkpoint first
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
