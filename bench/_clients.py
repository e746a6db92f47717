"""Clients of a server, in a process of their own: `python bench/_clients.py URL FILE` prints JSON.

FILE holds bodies of completions, `{"at_once": N, "bodies": [...]}`. As many connections as that
send them in turn, each reading an answer to its end before it asks again. Sockets are read as they
are, since a client's library takes more of the processor than the server does.
"""

import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, body: bytes
) -> bytes:
    """An answer's body as it came, chunks and all."""
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    told = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not told.startswith(b"http/1.1 200"):
        raise ValueError(told.decode())
    if b"transfer-encoding: chunked" in told:
        return await reader.readuntil(b"\r\n0\r\n\r\n")
    return await reader.readexactly(int(told.partition(b"content-length:")[2].split()[0]))


async def client(address: str, bodies: deque[bytes]) -> int:
    """The tokens of the answers that this one got."""
    url, tokens = urlsplit(address), 0
    reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=1 << 24)
    while bodies:
        found = await ask(reader, writer, url.netloc, bodies.popleft())
        tokens += json.loads(found.rpartition(b'"completion_tokens":')[2].partition(b",")[0])
    writer.close()
    return tokens


async def main() -> None:
    address, file = sys.argv[1:]
    asked = json.loads(Path(file).read_text())
    bodies = deque(json.dumps(body).encode() for body in asked["bodies"])
    began = time.perf_counter()
    tokens = await asyncio.gather(*(client(address, bodies) for _ in range(asked["at_once"])))
    print(json.dumps({"tokens": sum(tokens), "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    asyncio.run(main())
