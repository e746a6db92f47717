"""`kindling serve`: find what is to be served, in the registry or in folders, and start."""

import errno
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.catalogue import FILE, load
from components.registry import CHAMPION
from components.serving import keys as api_keys
from components.serving import logs
from components.serving.engine import BASE, RequestError
from components.serving.limits import Serving
from flows import ports, settings

RETRY_SECONDS = 5.0  # when lineage that DVC keeps to itself is worth asking for again

if TYPE_CHECKING:
    from components.serving.deployment import Deployment
    from components.serving.gateway import Gateway
    from components.serving.inspection import Outlook
    from components.serving.watcher import Watcher


class ServeError(ValueError):
    """What was asked for cannot be served; the message names the next command."""


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
        ServeError: nothing fits, the port is taken, or others could ask without a key.
    """
    if adapters and base is None:
        raise ServeError(
            "--adapter needs --base DIR, the folder of the base that it was trained on"
        )
    if base is not None and not base.is_dir():
        raise ServeError(
            f"--base {base}: no such folder; give one such as artifacts/{pipeline}/base, or leave "
            "--base out to serve what is registered"
        )
    keys = api_keys.Keys(workspace / api_keys.FILE, always=not api_keys.is_loopback(host))
    if keys.required() and not keys.all():
        raise ServeError(_without_key(host, keys.path))
    _require_port(host, port)
    settings.make_haste()
    logs.install()  # adapters are loaded from here on, and what is wrong with them is logged
    print("loading; the first time on a machine kernels are compiled, for a minute", flush=True)
    gateway, outlook, watcher = assemble(workspace, pipeline, alias, base, adapters, keys)
    _listen(gateway, outlook, watcher, host, port)


def assemble(
    workspace: Path,
    pipeline: str,
    alias: str,
    base: Path | None,
    adapters: list[str],
    keys: api_keys.Keys,
) -> tuple["Gateway", "Outlook", "Watcher | None"]:
    """Everything of a server but its socket: loaded, and not started."""
    from components.serving.gateway import Gateway
    from components.serving.templates import FolderTemplates, RegistryTemplates
    from components.serving.watcher import Watcher
    from flows.deploying import Registered

    limits, names, outlook = _of_catalogue(workspace)
    if base is not None:
        folders = dict(_named(text) for text in adapters)
        deployment = _of_folders(workspace, pipeline, base, folders, limits)
        gateway = Gateway(deployment, FolderTemplates(folders), workspace, limits, keys)
        return gateway, outlook, None
    source = Registered(workspace, pipeline, alias)
    deployment = source.deploy(source.pointed())
    if alias == CHAMPION and not deployment.names and not deployment.refused:
        print(f"no adapter of {pipeline} was promoted; serving the base (--alias candidate: all)")
    templates = RegistryTemplates(source.store, names)
    gateway = Gateway(deployment, templates, workspace, limits, keys)
    return gateway, outlook, Watcher(gateway.current, source.look, limits.poll_seconds)


def _lineage(workspace: Path, identity: str) -> dict[str, Any]:
    """What made an answer. DVC, which may be at work for hours, is not waited for."""
    from flows import graph, trace

    try:
        return trace.of_answer(workspace, identity, wait=False)
    except (graph.Busy, graph.TornLock) as error:
        raise RequestError(str(error), "id", "registry_unavailable", RETRY_SECONDS) from error


def _of_catalogue(workspace: Path) -> tuple[Serving, list[str], "Outlook"]:
    """Limits, the names of prompts, and what there is to see; defaults outside a workspace."""
    from components.serving.inspection import Outlook

    lineage = partial(_lineage, workspace)
    if not (workspace / FILE).is_file():
        return Serving(), [], Outlook({}, lineage)
    catalogue = load(workspace, check_files=False)  # data that served models came from may be gone
    folders = {name: workspace / "artifacts" / name / "base" for name in catalogue.pipelines}
    return catalogue.serving, list(catalogue.prompts), Outlook(folders, lineage)


def _of_folders(
    workspace: Path, pipeline: str, base: Path, folders: dict[str, Path], limits: Serving
) -> "Deployment":
    from components.serving.deployment import Deployment
    from components.serving.engines import engine_of
    from flows import evidence
    from flows.deploying import GOLDEN, identity, warm

    engine = engine_of(base, serving=limits)
    for name, folder in folders.items():
        judged = folder.resolve().parents[1] / "evaluations" / folder.resolve().name
        engine.add(name, folder, judged if (judged / GOLDEN).is_file() else None)
    warm(engine, wait=False)
    shared = identity(workspace, pipeline, evidence.commit(workspace))
    return Deployment(engine, shared, {name: name for name in folders})


def _listen(
    gateway: "Gateway", outlook: "Outlook", watcher: "Watcher | None", host: str, port: int
) -> None:
    from components.serving.listener import Listener
    from components.serving.server import create_app

    tracer = _tracer(gateway) if gateway.limits.trace_requests else None
    deployment = gateway.current.now
    for name, reason in deployment.unavailable().items():
        print(f"unavailable: {name}: {reason}")

    def ready(bound: int) -> None:
        place = f"[{host}]" if ":" in host else host
        address = f"http://{place}:{bound}"
        print(f"serving {', '.join(deployment.models())} on {address}", flush=True)
        print(f"playground: {address}/playground", flush=True)

    if watcher:
        watcher.start()
    try:
        Listener(create_app(gateway, outlook), gateway, host, port, ready).run()
    finally:
        if watcher:
            watcher.stop()
        if tracer:
            tracer.close()
        gateway.current.now.engine.close()


def _tracer(gateway: "Gateway") -> Any:
    from components.serving.tracing import Tracer
    from flows import tracking

    workspace = gateway.workspace
    pipeline = str(gateway.current.now.identity["pipeline"])
    experiment = tracking.experiment(tracking.client(workspace), workspace, pipeline)
    tracer = Tracer(experiment, gateway.limits.log_texts)
    gateway.listeners.append(tracer)
    return tracer


def _named(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not sign or not name or name == BASE:
        raise ServeError(f"--adapter {text}: expected NAME=DIR, with another name than '{BASE}'")
    if not (Path(folder) / "adapter.json").is_file():
        raise ServeError(f"--adapter {text}: {folder} is no adapter folder (no adapter.json)")
    return name, Path(folder)


def _without_key(host: str, file: Path) -> str:
    if not api_keys.is_loopback(host):
        return (
            f"--host {host} lets other machines ask, and there is no API key; make one with "
            "'kindling keys add NAME', or leave --host out"
        )
    return (
        "the last API key was revoked, so nobody could ask; make one with 'kindling keys add "
        f"NAME', or remove {file} to let everybody on this machine ask"
    )


def _require_port(host: str, port: int) -> None:
    if said := ports.refusal(host, port):
        taken = f" by {ports.holder(port)}" if said == os.strerror(errno.EADDRINUSE) else ""
        raise ServeError(f"cannot listen on {host}:{port}: {said}{taken}; use --port")
