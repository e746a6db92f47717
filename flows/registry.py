"""A workspace's way to the registry, which the workspaces of one repository share."""

from contextlib import AbstractContextManager
from pathlib import Path

from components import locks
from components.catalogue import Catalogue
from components.registry import Registry
from flows import settings, tracking

TOP = "root"  # the workspace at a repository's top: its folder has another name in each clone
PATIENCE = 300.0  # seconds for which a release waits for another


def workspace_name(workspace: Path) -> str:
    """What a workspace is called in the registry: its place in the repository."""
    home = settings.home(workspace.resolve())
    place = workspace.resolve().relative_to(home.resolve()).as_posix()
    return TOP if place == "." else place


def registry(workspace: Path) -> Registry:
    tracking.client(workspace)  # makes the store's tables under a lock
    copies = settings.home(workspace) / ".kindling" / "registry"
    return Registry(settings.tracking_uri(workspace), workspace_name(workspace), copies)


def require_names(workspace: Path, catalogue: Catalogue, pipeline: str) -> None:
    """Refuse names that `release` could not register, before any work is spent.

    Raises:
        RegistryError: one belongs to another workspace.
    """
    names = [f"{pipeline}.{name}" for name in ("base", *catalogue.adapters_of(pipeline))]
    registry(workspace).require_own(names, catalogue.prompts)


def registry_lock(workspace: Path) -> Path:
    """What whoever registers and judges holds, in any workspace of the repository."""
    return settings.home(workspace) / ".kindling" / "registry.lock"


def alone(workspace: Path) -> AbstractContextManager[None]:
    """While this is held nobody else releases: what `current` said stays true until `promote`.

    Raises:
        locks.Held: somebody else did not end within minutes.
    """
    return locks.hold(registry_lock(workspace), PATIENCE)
