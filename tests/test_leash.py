"""What ends with the process that started it, and what must not end before."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil

from flows import settings
from tests.conftest import ROOT

START = """
import json, sys
from flows import leash
leash.start_server()
leash.tie_server()
from prefect.client.orchestration import get_client
from prefect.server.api.server import SubprocessASGIServer
with get_client(sync_client=True) as client:
    server = SubprocessASGIServer()
    print(json.dumps([server.server_process.pid, str(client.api_url) == f"{server.api_url}/"]))
sys.stdout.flush()
sys.stdin.read()
"""


def test_prefects_server_outlives_ctrl_c_and_ends_with_its_flow(tmp_path):
    """A terminal tells all at once. A flow without a server waited minutes to tell its end."""
    quiet = {**settings.QUIET, **settings.PATIENCE}
    environment = {**os.environ, **quiet, "PREFECT_HOME": str(tmp_path)}
    environment.pop("PREFECT_API_URL", None)
    flow = subprocess.Popen(
        [sys.executable, "-c", START], cwd=ROOT, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        number, found = json.loads(flow.stdout.readline())
        assert found  # it is the one that clients use
        server = psutil.Process(number)
        server.send_signal(signal.SIGINT)
        time.sleep(1)
        assert server.is_running() and server.status() != psutil.STATUS_ZOMBIE
    finally:
        flow.kill()
        flow.wait()
    server.wait(30)
