"""Stages without the wait for imports: a server that has imported what they need, and forks.

Many stages work for seconds, and would import torch, transformers, peft and MLflow for as long. A
flow starts one server; `python -m flows.stage` asks it for a fork, hands over its environment and
streams, passes signals on and ends as the fork ends. Without a server (a bare `dvc repro`), or
while that is still importing, a stage runs in its own process and does the same work.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from flows import leash, settings

# libraries alone: the project's own modules are imported by each stage, as they are by then
LIBRARIES = (
    "numpy",
    "datasets",
    "mlflow",
    "torch",
    "tokenizers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.models.llama.tokenization_llama",
    "transformers.generation.utils",
    "peft",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "matplotlib.figure",
)
POLL_SECONDS = 1.0
PASSED_ON = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def running(workspace: Path) -> Iterator[str | None]:
    """A server for the time of the context; its address, None where there is none."""
    if sys.platform != "linux":  # elsewhere a fork of loaded numeric libraries is not safe
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="kindling-") as folder:
        address = str(Path(folder, "stages"))
        command = [sys.executable, "-m", "flows.forkserver", address]
        server = subprocess.Popen(command, cwd=workspace, start_new_session=True)
        try:
            yield address
        finally:
            server.kill()
            server.wait()


def hand_over(module: str, arguments: list[str]) -> int | None:
    """Let a fork of the server do what `python -m module arguments` would do here.

    Returns its exit code; None: there is no server to ask.
    """
    address = settings.fork_server()
    if address is None:
        return None
    with socket.socket(socket.AF_UNIX) as call:
        try:
            call.connect(address)
        except OSError:  # it is still importing
            return None
        masters = [os.getpid(), *leash.masters()]
        order = {
            "module": module,
            "arguments": arguments,
            "folder": os.getcwd(),
            "environment": settings.fork_environment(masters),
        }
        socket.send_fds(call, [b"!"], [0, 1, 2])
        call.sendall(json.dumps(order).encode() + b"\n")
        return _follow(call)


def _follow(call: socket.socket) -> int:
    """Wait for the fork's end, passing signals on to it."""
    with call.makefile("r") as answer:
        fork = int(answer.readline() or 0)

        def pass_on(number: int, _frame: FrameType | None) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(fork, number)

        for number in PASSED_ON if fork else ():
            signal.signal(number, pass_on)
        code = answer.readline()
    return int(code) if code else 128 + signal.SIGKILL  # it could say nothing any more


def _serve(address: str) -> None:
    """Import, then fork for every call, until the process that started this one is gone."""
    starter = os.getppid()
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page that it looks at
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks leave no zombies
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        door.settimeout(POLL_SECONDS)
        while os.getppid() == starter:
            with contextlib.suppress(TimeoutError):
                call, _ = door.accept()
                with call:
                    if os.fork() == 0:
                        door.close()
                        _work(call)


def _work(call: socket.socket) -> None:
    """In the fork: become the process that called, do its work, and never return."""
    code = 1
    try:
        call.settimeout(None)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, streams, _, _ = socket.recv_fds(call, 1, 3)
        with call.makefile("r") as asked:
            order = json.loads(asked.readline())
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(order["folder"])
        settings.become(order["environment"])
        call.sendall(f"{os.getpid()}\n".encode())
        sys.argv = [order["module"], *order["arguments"]]
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = _code(ended)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            call.sendall(f"{code}\n".encode())
        os._exit(code)


def _code(ended: SystemExit) -> int:
    """The exit code that Python would give; a message goes to standard error, as there."""
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    print(ended.code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    _serve(sys.argv[1])
