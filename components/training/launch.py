"""Pretraining by several processes, started and watched by `torchrun` or by Ray Train.

What they report comes back line by line. They end when the process that started them does: each
holds the reading end of a pipe whose writing end is there. With several machines the first one
writes down what is to be done, beside the checkpoints, and the others `join`.
"""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.lineage import read_json, write_json
from components.reporter import Reporter
from components.training.group import Group

TAIL = 20  # lines of output that a failure shows
MARK = "\x1e"  # before a report: the ASCII record separator, in no other line
JOB = "job.json"  # beside the checkpoints: what other machines find there
POLL_SECONDS = 0.5


def run(job: dict[str, Any], group: Group, report: Reporter) -> dict[str, float]:
    """Let `group` do `job`, the arguments of `pretrain` as JSON values. Returns what that does.

    Raises:
        ValueError: a process failed; the message holds the end of the output.
        SystemExit: they were asked to stop, and did behind a checkpoint.
    """
    if group.nodes > 1 and group.engine == "local":
        folder = Path(job["checkpoints"])
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / JOB, {"group": asdict(group), "job": job})
        report.progress(0, 1, f"waiting for {group.nodes - 1} more machines at {group.meeting}")
    return _watched(job, group, 0, report)


def join(checkpoints: Path, node: int, report: Reporter) -> None:
    """Do this machine's share of what another one runs, once that has begun.

    checkpoints: the folder that the first machine was given; all machines see it. node: which
    machine this one is, from 1.

    Raises:
        ValueError: there is no such machine in the group, or its processes failed.
        SystemExit: they were asked to stop, here or elsewhere.
    """
    report.progress(0, 1, "waiting until the machine that runs this has come so far")
    begun = _begun(checkpoints / JOB)
    group = Group(**begun["group"])
    if not 1 <= node < group.nodes:
        raise ValueError(f"--node {node}: the machines that join are 1 to {group.nodes - 1}")
    report.progress(0, 1, f"training with the machine at {group.meeting}")
    _watched(begun["job"], group, node, report)


def _begun(file: Path) -> dict[str, Any]:
    """What the first machine wrote to `file`, once it waits where that says."""
    while not (file.is_file() and _answers(read_json(file)["group"]["meeting"])):
        time.sleep(POLL_SECONDS)
    return read_json(file)  # again: it was written before anyone could answer


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=POLL_SECONDS).close()
    except OSError:
        return False
    return True


def _command(job: dict[str, Any], group: Group, node: int) -> list[str]:
    each = {"threads": group.threads_each, "strategy": group.strategy, "job": job}
    if group.engine == "ray":
        given = json.dumps({**each, "group": asdict(group)})
        return [sys.executable, "-m", "components.training.ray_train", given]
    place = ["--standalone"]
    if group.nodes > 1:
        host, _, port = group.meeting.rpartition(":")
        place = ["--nnodes", str(group.nodes), "--node-rank", str(node)]
        place += ["--master-addr", host, "--master-port", port]
    return [
        *(sys.executable, "-m", "torch.distributed.run", *place),
        *("--nproc-per-node", str(group.processes), "--no-python", sys.executable),
        *("-m", "components.training.worker", json.dumps(each)),
    ]


def _watched(job: dict[str, Any], group: Group, node: int, report: Reporter) -> dict[str, float]:
    """Start this machine's processes and wait for them; on the first machine their result.

    Raises:
        ValueError: a process failed.
        SystemExit: they were asked to stop.
    """
    started = subprocess.Popen(
        _command(job, group, node),
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
    if code if node else "done" not in said:
        shown = "\n".join(tail[-TAIL:])
        raise ValueError(f"{group.processes} processes ended with {code}:\n{shown}")
    return said.get("done", {})


def _relay(started: subprocess.Popen, report: Reporter) -> tuple[dict[str, Any], list[str]]:
    """Hand on what is reported; how it ended (`done`, `stopped` or `failed`), and other lines."""
    said, tail = {}, []
    for line in started.stdout:
        if not line.startswith(MARK):
            tail += [line.rstrip()] if line.strip() else []
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
