"""Many clients at once: `python bench/load.py --connections 500 --json FILE`.

A server of tiny models listens on a real socket. All connections are open and ask at the same
moment; one in ten of them sends half a request and stays silent, one in ten leaves before its
answer. Whoever stays is answered: 200, or 429 with a time to come again, which it does.
"""

import argparse
import asyncio
import json
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx

from components.serving.limits import Serving
from tests.serving import listening, make_gateway
from tests.tiny_models import make_folders

LIMITS = Serving(queue=64, seconds=120)
MOST_TRIES = 200
BODY = {"model": "lora", "prompt": "the film", "max_tokens": 8, "temperature": 0}


async def ask(client: httpx.AsyncClient, number: int, said: Counter, seconds: list[float]) -> None:
    """One client, which comes again where it is told to."""
    began = time.monotonic()
    for _ in range(MOST_TRIES):
        try:
            timeout = 0.2 if number % 10 == 1 else 120
            response = await client.post("/v1/completions", json=BODY, timeout=timeout)
        except httpx.TimeoutException:
            said["left"] += 1
            return
        said[str(response.status_code)] += 1
        if response.status_code != 429:
            seconds.append(time.monotonic() - began)
            return
        await asyncio.sleep(min(2.0, float(response.headers["retry-after"])))
    said["gave up"] += 1


async def load(address: str, connections: int) -> dict:
    url = httpx.URL(address)
    silent = [socket.create_connection((url.host, url.port)) for _ in range(connections // 10)]
    for connection in silent:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Le")
    said: Counter = Counter()
    seconds: list[float] = []
    # none is used twice: one that the server has just closed would look like a fault
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=0)
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=address, limits=limits) as client:
        clients = range(connections - len(silent))
        await asyncio.gather(*(ask(client, number, said, seconds) for number in clients))
    whole = time.monotonic() - began
    for connection in silent:
        connection.close()
    seconds.sort()
    return {
        "connections": connections,
        "silent": len(silent),
        "said": dict(said),
        "server_errors": sum(n for status, n in said.items() if status.startswith("5")),
        "answers_per_second": round(said["200"] / whole, 1),
        "median_seconds": round(seconds[len(seconds) // 2], 3),
        "slowest_seconds": round(seconds[-1], 3),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--connections", type=int, default=500)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = make_folders(Path(folder))
        few = {name: made[name] for name in ("base", "lora")}
        gateway = make_gateway(few, Path(folder), LIMITS)
        with listening(gateway) as address:
            told = asyncio.run(load(address, given.connections))
        told["left_at_work"] = gateway.line.requests
    print(json.dumps(told, indent=1))
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if told["server_errors"] or told["said"].get("gave up") or told["left_at_work"]:
        sys.exit("somebody was not answered")


if __name__ == "__main__":
    main()
