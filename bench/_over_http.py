"""What of an engine's tokens a second clients get over HTTP, whole answers and streamed ones."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from _asking import rates, serve
from _first_token import gateway_of
from _peers import Job

from components.serving.batched_engine import BatchedEngine
from tests.serving import listening

CLIENTS = Path(__file__).with_name("_clients.py")


def shares(
    engine: BatchedEngine, workspace: Path, jobs: Sequence[Job], rounds: int
) -> dict[str, float]:
    """Tokens a second of the engine alone and over HTTP; as many clients as it has rows."""
    files = {stream: workspace / f"asked-{stream}.json" for stream in (False, True)}
    workspace.mkdir(parents=True, exist_ok=True)
    for stream, file in files.items():
        bodies = [_body(job, stream) for job in jobs]
        file.write_text(json.dumps({"at_once": engine.at_once, "bodies": bodies}))
    with listening(gateway_of(engine, workspace)) as address:
        contestants = {
            "engine_alone": lambda: serve(engine, jobs),
            "http": lambda: _asked(address, files[False]),
            "http_streamed": lambda: _asked(address, files[True]),
        }
        return rates(contestants, rounds, engine.batcher.pool.forget)


def _body(job: Job, stream: bool) -> dict:
    model, ids, most = job
    body = {"model": model, "prompt": ids, "max_tokens": most, "temperature": 0}
    more = {"stream": True, "stream_options": {"include_usage": True}}
    return body | more if stream else body


def _asked(address: str, file: Path) -> int:
    """Tokens that clients of a process of their own got. Its start counts: some 0.1 s."""
    command = [sys.executable, "-I", str(CLIENTS), address, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["tokens"]
