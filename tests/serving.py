"""Servers of tiny models, in this process and listening on a real socket."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from components.inference.batcher import Limits
from components.inference.turns import Turns
from components.serving.batched_engine import BatchedEngine
from components.serving.deployment import Deployment
from components.serving.engine import Engine
from components.serving.gateway import Gateway
from components.serving.inspection import Outlook
from components.serving.keys import FILE, Keys
from components.serving.limits import Serving
from components.serving.listener import Listener
from components.serving.server import create_app
from components.serving.templates import FolderTemplates
from tests.tiny_models import ADAPTERS


def make_gateway(
    folders: Mapping[str, Path],
    workspace: Path,
    limits: Serving | None = None,
    always: bool = False,
    rows: int = 1,
) -> Gateway:
    """A gateway to the `base` of `folders` and the adapters among them, on kindling's own engine.

    rows: requests at work at once; with one, a second is in line.
    """
    kinds = {name for name in folders if (folders[name] / "adapter.json").is_file()}
    adapters = {name: folders[name] for name in (*ADAPTERS, *sorted(kinds)) if name in kinds}
    engine = BatchedEngine(folders["base"], adapters, limits=Limits(rows=rows))
    engine.warm()
    return gateway_to(engine, adapters, workspace, limits, always)


def gateway_to(
    engine: Engine,
    adapters: Mapping[str, Path],
    workspace: Path,
    limits: Serving | None = None,
    always: bool = False,
) -> Gateway:
    """A gateway to `engine`, which serves `adapters`."""
    keys = Keys(workspace / FILE, always)
    deployment = Deployment.of_folders(engine, "tiny")
    return Gateway(deployment, FolderTemplates(adapters), workspace, limits or Serving(), keys)


@contextmanager
def paused(turns: Turns) -> Iterator[None]:
    """No step is taken meanwhile; what is asked is heard all at once behind it."""
    begun, over = threading.Event(), threading.Event()
    turns.tell(begun.set)
    turns.tell(over.wait)
    assert begun.wait(20)
    try:
        yield
    finally:
        over.set()


@contextmanager
def running(gateway: Gateway, outlook: Outlook | None = None) -> Iterator[tuple[str, Listener]]:
    """The address of a server of `gateway`, and the server, which ends with this."""
    server = Listener(create_app(gateway, outlook), gateway, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.port}", server
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@contextmanager
def listening(gateway: Gateway, outlook: Outlook | None = None) -> Iterator[str]:
    """The address of a server of `gateway`, which ends with this."""
    with running(gateway, outlook) as (address, _):
        yield address
