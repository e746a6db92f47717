"""Pretraining by several processes of this machine, started and watched by `torchrun`.

What they report comes back line by line. They end when the process that started them does: each
holds the reading end of a pipe whose writing end is there.
"""

import json
import signal
import subprocess
import sys
import threading
from typing import Any

from components.reporter import Reporter

TAIL = 20  # lines of output that a failure shows
MARK = "\x1e"  # before a report: the ASCII record separator, in no other line


def run(
    job: dict[str, Any], processes: int, threads: int, strategy: str, report: Reporter
) -> dict[str, float]:
    """Let `processes` processes do `job`, the arguments of `pretrain` as JSON values.

    threads: of all of them together. Returns what `pretrain` does.

    Raises:
        ValueError: a process failed; the message holds the end of the output.
        SystemExit: they were asked to stop, and did behind a checkpoint.
    """
    shape = {"threads": threads // processes, "strategy": strategy}
    started = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(processes), "--no-python", sys.executable),
            *("-m", "components.training.worker", json.dumps({**shape, "job": job})),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with _passing_on(started):
        said, tail = _relay(started, report)
        code = started.wait()
    if "stopped" in said:
        raise SystemExit(said["stopped"])
    if "failed" in said:
        raise ValueError(said["failed"])
    if "done" not in said:
        raise ValueError(f"{processes} processes ended with {code}:\n" + "\n".join(tail[-TAIL:]))
    return said["done"]


def _relay(started: subprocess.Popen, report: Reporter) -> tuple[dict[str, Any], list[str]]:
    """Hand on what is reported; how it ended (`done`, `stopped` or `failed`), and other lines."""
    said, tail = {}, []
    for line in started.stdout:
        if not line.startswith(MARK):
            tail.append(line.rstrip())
            continue
        kind, *values = json.loads(line[len(MARK) :])
        if kind in ("done", "stopped", "failed"):
            said[kind] = values[0]
        else:
            getattr(report, kind)(*values)
    return said, tail


class _passing_on:
    """SIGTERM and SIGINT go to the processes, which write a checkpoint; only in a main thread."""

    def __init__(self, started: subprocess.Popen) -> None:
        self.started = started
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.before[number] = signal.signal(number, self._pass)

    def _pass(self, number: int, _frame: Any) -> None:
        self.started.send_signal(signal.SIGTERM)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.started.poll() is None:
            self.started.kill()
