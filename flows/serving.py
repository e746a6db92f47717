"""`kindling serve`: find what is to be served, in the registry or in folders, and start."""

import socket
from pathlib import Path
from typing import Any

from components.catalogue import load, suggestion
from components.registry import CANDIDATE, CHAMPION, RegistryError
from components.serving.engine import BASE
from flows import evidence
from flows.trace import FINGERPRINTS


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
    """The FastAPI application of `kindling serve`, everything loaded."""
    from components.serving.server import create_app
    from components.serving.templates import FolderTemplates
    from components.serving.transformers_engine import TransformersEngine
    from flows.release import workspace_name

    if base is not None:
        folders = dict(_named(text) for text in adapters)
        registered: dict[str, Any] = {"versions": {}}
        templates: Any = FolderTemplates(folders)
    else:
        base, folders, registered, templates = _registered(workspace, pipeline, alias)
    engine = TransformersEngine(base, folders)
    identity = {
        "pipeline": pipeline,
        "workspace": workspace_name(workspace),
        "commit": evidence.commit(workspace),
        **registered,
    }
    print(f"serving {', '.join(engine.models())}", flush=True)
    return create_app(engine, templates, workspace / FINGERPRINTS, identity)


def _named(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not sign or not name or name == BASE:
        raise ServeError(f"--adapter {text}: expected NAME=DIR, with another name than '{BASE}'")
    if not (Path(folder) / "adapter.json").is_file():
        raise ServeError(f"--adapter {text}: {folder} is no adapter folder (no adapter.json)")
    return name, Path(folder)


def _registered(workspace: Path, pipeline: str, alias: str) -> tuple[Path, dict, dict, Any]:
    """Base folder, adapter folders, versions and prompt versions by name, and templates."""
    from components.serving.templates import RegistryTemplates
    from flows.release import registry

    catalogue = load(workspace)
    if pipeline not in catalogue.pipelines:
        raise ServeError(f"no pipeline '{pipeline}'{suggestion(pipeline, catalogue.pipelines)}")
    store = registry(workspace)
    found = store.alias(f"{pipeline}.base", alias)
    if found is None and alias == CHAMPION:
        # nothing has passed a gate: the base alone is still worth talking to
        found = store.alias(f"{pipeline}.base", CANDIDATE)
        print(f"no adapter of {pipeline} was promoted; serving the base (--alias candidate: all)")
    if found is None:
        raise RegistryError(
            f"the registry has no '{pipeline}.base' with alias '{alias}'; run 'kindling register "
            f"{pipeline}', or 'kindling run {pipeline}' if nothing was made yet"
        )
    base_version = int(found.version)
    versions: dict[str, Any] = {BASE: base_version}
    folders, prompts = {}, {}
    for name in catalogue.adapters_of(pipeline):
        version = store.alias(f"{pipeline}.{name}", alias)
        if version is None or int(version.tags["kindling.base"]) != base_version:
            continue
        versions[name] = int(version.version)
        prompts[name] = int(version.tags["kindling.prompt_version"])
        folders[name] = store.folder(f"{pipeline}.{name}", int(version.version))
    base = store.folder(f"{pipeline}.base", base_version)
    registered = {"versions": versions, "prompts": prompts}
    return base, folders, registered, RegistryTemplates(store, list(catalogue.prompts))


def _require_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(
                f"cannot listen on {host}:{port}: {error.strerror}; use --port"
            ) from None
