"""`kindling serve`: find what is to be served, in the registry or in folders, and start."""

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.serving.engine import BASE
from flows import evidence
from flows.trace import FINGERPRINTS
from flows.watch import Placed, ServeError, Watch


def serve(
    workspace: Path,
    pipeline: str,
    host: str,
    port: int,
    alias: str,
    base: Path | None,
    adapters: list[str],
) -> None:
    """Serve until interrupted.

    base, adapters (`NAME=DIR`): folders to serve instead of what the registry calls `alias`.

    Raises:
        ServeError: nothing fits, or the port is taken.
    """
    if adapters and base is None:
        raise ServeError(
            "--adapter needs --base DIR, the folder of the base that it was trained on"
        )
    _require_port(host, port)
    app = application(workspace, pipeline, alias, base, adapters)
    import uvicorn

    uvicorn.run(app, host=host, port=port, log_level="warning")


def application(
    workspace: Path, pipeline: str, alias: str, base: Path | None, adapters: list[str]
) -> Any:
    """The FastAPI application of `kindling serve`, its base loaded, its adapters being proven."""
    from components.serving.server import create_app
    from components.serving.templates import FolderTemplates, RegistryTemplates
    from flows.release import workspace_name

    watch = None
    if base is not None:
        placed = dict(_named(text) for text in adapters)
        versions: dict[str, int] = {}
        templates: Any = FolderTemplates({name: found.folder for name, found in placed.items()})
    else:
        watch = Watch(workspace, pipeline, alias)
        base, placed = watch.base, watch.placed
        versions = {name: found.registered["version"] for name, found in placed.items()}
        versions[BASE] = watch.version
        templates = RegistryTemplates(watch.store, list(watch.catalogue.prompts))
    engine = engine_for(base, placed)
    identity = {
        "pipeline": pipeline,
        "workspace": workspace_name(workspace),
        "commit": evidence.commit(workspace),
        "versions": versions,
        "prompts": {n: p.registered["prompt"] for n, p in placed.items() if p.registered},
    }
    print(f"serving {', '.join(engine.models())}", flush=True)
    if watch is not None and hasattr(engine, "add"):
        watch.follow(engine)
    return create_app(engine, templates, workspace / FINGERPRINTS, identity)


def engine_for(base: Path, placed: Mapping[str, Placed]) -> Any:
    """kindling's own engine where it knows the base's family, transformers' for all others."""
    from components.inference.checkpoint import Unsupported
    from components.serving.batched_engine import BatchedEngine
    from components.serving.transformers_engine import TransformersEngine

    try:
        engine = BatchedEngine(base, {})
    except Unsupported as reason:
        print(f"transformers serves this base, one request at a time: {reason}", flush=True)
        return TransformersEngine(base, {name: found.folder for name, found in placed.items()})
    for name, found in placed.items():
        engine.add(name, found.folder, found.evaluation, found.registered)
    threading.Thread(target=engine.warm, name="warm", daemon=True).start()
    return engine


def _named(text: str) -> tuple[str, Placed]:
    name, sign, given = text.partition("=")
    folder = Path(given)
    if not sign or not name or name == BASE:
        raise ServeError(f"--adapter {text}: expected NAME=DIR, with another name than '{BASE}'")
    if not (folder / "adapter.json").is_file():
        raise ServeError(f"--adapter {text}: {folder} is no adapter folder (no adapter.json)")
    judged = folder.resolve().parents[1] / "evaluations" / folder.resolve().name
    return name, Placed(folder, judged if (judged / "golden.json").is_file() else None)


def _require_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(
                f"cannot listen on {host}:{port}: {error.strerror}; use --port"
            ) from None
