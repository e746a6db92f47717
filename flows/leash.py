"""A stage dies with the processes that started it, and so does Prefect's temporary server.

Without this, `kill -9` of `dvc repro` leaves its child at work; the next `dvc repro` deletes the
output, starts a second child, and the mixture of both is cached as the result.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil

from flows import settings

TEMPORARY_SERVER = "prefect.server.api.server:create_app"  # on the command line of what it starts
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


def start_server() -> None:
    """Start Prefect's temporary server, where a flow of this process will need one, deaf to Ctrl-C.

    A terminal sends SIGINT to all that it started. A server that ended of it would leave the flow
    to tell its end to nobody, for minutes. A signal stays blocked in what is started meanwhile.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_ENABLED

    if PREFECT_API_URL.value() or not PREFECT_SERVER_EPHEMERAL_ENABLED:
        return
    from prefect.server.api.server import SubprocessASGIServer

    usual = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        SubprocessASGIServer().start()  # the one that Prefect's clients then find
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)


def tie_server() -> None:
    """Let Prefect's temporary server, if this process has one, end with it, however it ends.

    The server watches nobody, and this process may have no time to end it: a process between them
    does.
    """
    for child in psutil.Process().children():
        if any(TEMPORARY_SERVER in word for word in child.cmdline()):
            subprocess.Popen(
                [sys.executable, "-m", "flows.leash", str(os.getpid()), str(child.pid)],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # what ends this process's group is for its farewell
            )


def _hold(master: psutil.Process, held: psutil.Process) -> None:
    """End `held` when `master` has ended."""
    while _alive(master):
        if not _alive(held):
            return
        time.sleep(POLL_SECONDS)
    with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        held.terminate()
        held.wait(GRACE_SECONDS)
    with suppress(psutil.NoSuchProcess):
        held.kill()


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


if __name__ == "__main__":
    with suppress(psutil.NoSuchProcess):
        _hold(*(psutil.Process(int(pid)) for pid in sys.argv[1:]))
