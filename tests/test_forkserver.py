"""A stage done by a fork of the server ends, fails and dies as one in its own process."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from components.lineage import content_of
from flows import forkserver, settings
from tests.conftest import isolate, make_workspace
from tests.test_kills import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="stages fork on Linux alone"),
]
COMMAND = [sys.executable, "-m", "flows.stage"]


def answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as call:
        return call.connect_ex(address) == 0


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A workspace and the address of a server that has imported everything."""
    folder = make_workspace(tmp_path_factory.mktemp("forks") / "workspace")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        with forkserver.running(folder) as address:
            wait_for(lambda: answers(address))
            yield folder, settings.child_environment(settings.told(None, address))


def start(served, stage: str) -> subprocess.Popen:
    folder, environment = served
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*COMMAND, stage], cwd=folder, env=environment, **pipes)


def forks() -> list[psutil.Process]:
    """Children of the server of this test."""
    return [
        fork
        for server in psutil.Process().children()
        if "flows.forkserver" in server.cmdline()
        for fork in server.children()
        if fork.status() != psutil.STATUS_ZOMBIE
    ]


def test_makes_the_same_bytes_as_a_process_of_its_own(served):
    folder, environment = served
    for stage in ("dataset@tales", "corpus@quickstart", "tokenizer@quickstart"):
        process = start(served, stage)
        wait_for(forks)  # one of them works at it
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    made = content_of(folder / "artifacts/quickstart/tokenizer")
    shutil.rmtree(folder / "artifacts/quickstart/tokenizer")
    cold = {k: v for k, v in environment.items() if k != settings.FORK_SERVER}
    subprocess.run([*COMMAND, "tokenizer@quickstart"], cwd=folder, env=cold, check=True)
    assert content_of(folder / "artifacts/quickstart/tokenizer") == made


def test_an_error_is_told_in_one_line_on_the_callers_stream(served):
    process = start(served, "tokenizer@nothing")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith("tokenizer@nothing: no stage 'tokenizer@nothing'; stages are")
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ends_with_the_process_that_called(served, number):
    process = start(served, "dataset@reviews")
    wait_for(forks)
    process.send_signal(number)
    assert process.wait(timeout=10) != 0
    wait_for(lambda: not forks(), seconds=5)


def test_a_killed_fork_is_a_failed_stage(served):
    process = start(served, "dataset@reviews")
    wait_for(forks)
    for fork in forks():
        os.kill(fork.pid, signal.SIGKILL)
    assert process.wait(timeout=10) == 128 + signal.SIGKILL


def test_without_an_answering_server_a_stage_does_its_own_work(served, tmp_path):
    folder, environment = served
    process, made = start(served, "dataset@tales"), folder / "artifacts/datasets/tales"
    process.communicate(timeout=60)
    expected = content_of(made)
    shutil.rmtree(made)
    gone = {**environment, settings.FORK_SERVER: str(tmp_path / "nobody")}
    done = subprocess.run([*COMMAND, "dataset@tales"], cwd=folder, env=gone, check=False)
    assert done.returncode == 0 and content_of(made) == expected


def test_the_server_ends_with_the_flow(served, tmp_path):
    folder, environment = served
    address = str(tmp_path / "door")
    code = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-m', 'flows.forkserver', {address!r}])\n"
        "input()"
    )
    flow = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdin=subprocess.PIPE
    )
    wait_for(lambda: os.path.exists(address) and answers(address))
    server = psutil.Process(flow.pid).children()[0]
    flow.kill()
    flow.wait()
    deadline = time.monotonic() + 10
    while server.is_running() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not server.is_running()
