"""Background processes: each in a session of its own, with a pid file and a log."""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

TAIL_LINES = 15
POLL_SECONDS = 0.2
MARK = "KINDLING_STACK"  # what the processes of a service inherit


class StackError(RuntimeError):
    """A part of the stack cannot start or stop; the message says which, why, and what next."""


@dataclass(frozen=True)
class Service:
    """One process of the stack. port: None for one that listens nowhere; key: its setting."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    url: str
    port: int | None = None
    key: str = ""
    health: str = ""

    @property
    def pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    @property
    def mark(self) -> str:
        return str(self.pid_file)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def leader(self) -> psutil.Process | None:
        """The process itself, if it lives; one that only took over its number does not count."""
        noted = self._noted()
        if noted is None:
            return None
        try:
            process = psutil.Process(noted[0])
            same = abs(process.create_time() - noted[1]) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def members(self) -> list[psutil.Process]:
        """Every living process of this service: the process, and all that came of it.

        They are known by a variable that they inherit: a run's process and its stages have
        sessions of their own, and outlive a killed worker.
        """
        return [p for p in psutil.process_iter() if _mark(p) == self.mark]

    def start(self, cwd: Path) -> None:
        """Start the process and note its pid. Its output goes to `log`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command,
                cwd=cwd,
                env={**self.environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        born = psutil.Process(process.pid).create_time()
        self.pid_file.write_text(f"{process.pid} {born}\n", encoding="utf-8")

    def stop(self, seconds: float) -> bool:
        """End every process of the service: asked first, by force after `seconds`.

        Returns: whether something had to be ended.
        """
        members = self.members()
        _signal(members, signal.SIGTERM)
        _gone, left = psutil.wait_procs(members, timeout=seconds)
        left += self.members()  # what was started meanwhile
        _signal(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=seconds)
        self.pid_file.unlink(missing_ok=True)
        return bool(members)

    def said(self) -> str:
        """Where the log is, and its last lines."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "".join(f"\n  {line}" for line in lines[-TAIL_LINES:])
        return f"The end of {self.log}:{tail}"

    def _noted(self) -> tuple[int, float] | None:
        try:
            pid, born = self.pid_file.read_text(encoding="utf-8").split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid), float(born)


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None  # it ended, or is another user's


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def wait_for(service: Service, healthy, seconds: float) -> None:
    """Wait until `healthy()` is true.

    Raises:
        StackError: the process ended, or `seconds` went by; with the end of its log.
    """
    deadline = time.monotonic() + seconds
    while not healthy():
        if service.leader() is None:
            raise StackError(
                f"{service.name} ended while starting. {service.said()}\n"
                "Mend that, then run 'python -m infra.stack start' again"
            )
        if time.monotonic() > deadline:
            raise StackError(
                f"{service.name} did not answer within start_seconds ({seconds:g} s). "
                f"{service.said()}"
            )
        time.sleep(POLL_SECONDS)
