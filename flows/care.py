"""Looking after a workspace: `doctor` finds what is wrong, `status` says what is."""

import shutil
import sys
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from components import locks
from components.catalogue import Catalogue, load
from components.lineage import content_of, folder_hash
from flows import disk, expansion, graph, ports

TOP = Path(__file__).parents[1]  # the repository; what an installed package lacks is not there
SERVING = 8000  # the default of `kindling serve`
Finding = tuple[bool, str, str]  # (fine, what, said)


def doctor(workspace: Path) -> Iterator[Finding]:
    """Check interpreter, pins, catalogue, disk, locks, ports, dvc.lock, artifacts, registry."""
    version = ".".join(map(str, sys.version_info[:3]))
    right = sys.version_info[:2] == (3, 11)
    yield right, "interpreter", f"{sys.executable} {version}" + ("" if right else ": use 3.11")
    yield from _pins()
    try:
        catalogue = load(workspace)
    except ValueError as error:
        yield False, "catalogue", str(error)
        return
    found = f"{len(catalogue.pipelines)} pipelines, {len(catalogue.adapters)} adapters"
    yield True, "catalogue", found
    try:
        disk.require(workspace, catalogue.compute.disk_gb)
        yield True, "disk", f"{shutil.disk_usage(workspace).free / disk.GB:.1f} GB free"
    except OSError as error:
        yield False, "disk", str(error)
    held = list(running(workspace))
    yield True, "locks", "; ".join(f"{n}: {who}" for n, who in held) or "nothing is at work"
    yield from _ports(TOP / "infra" / "settings.yaml")
    yield _lock(workspace)
    yield from _artifacts(workspace)
    yield from _registry(workspace, catalogue)


def _pins(constraints: Path = TOP / "constraints.txt") -> Iterator[Finding]:
    """Whether what is installed is what `constraints` and components/versions say."""
    from flows.versions import pinned

    lines = constraints.read_text(encoding="utf-8").split() if constraints.is_file() else []
    shaping = pinned()  # stages refuse to run with others, so these have the last word
    pins = dict(line.split("==") for line in lines if "==" in line) | shaping
    installed = {name: _version(name) for name in pins}
    wrong = 0
    for name, found in installed.items():
        if found == pins[name] or (found is None and name not in shaping):
            continue
        wrong += 1
        said = f"{name} is {found or 'not installed'}, pinned is {pins[name]}"
        yield False, "pins", f"{said}: run 'pip install {name}=={pins[name]}'"
    if not wrong:
        source = "constraints.txt" if lines else "components/versions"
        count = sum(found is not None for found in installed.values())
        yield True, "pins", f"{count} packages as in {source}"


def _version(package: str) -> str | None:
    """Without the build that follows a plus: torch's says which processor it is for."""
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        return None


def _ports(settings_file: Path) -> Iterator[Finding]:
    """Who listens where kindling would. Taken is no fault: it may be kindling's own server."""
    # read as YAML: infra stands above flows and is no part of the installed package
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    wanted = {SERVING: "kindling serve"}
    if settings_file.is_file():
        try:
            found = YAML(typ="safe").load(settings_file.read_text(encoding="utf-8"))
            servers = {"prefect": "Prefect server", "mlflow": "MLflow server"}
            wanted = {int(found[key]["port"]): name for key, name in servers.items()} | wanted
        except (YAMLError, KeyError, TypeError, ValueError):
            said = f"{settings_file} gives no ports; 'python -m infra.stack status' says why"
            yield False, "ports", said
    for port, name in wanted.items():
        free = ports.refusal("127.0.0.1", port) is None
        state = "free" if free else f"in use by {ports.holder(port)}"
        yield True, f"port {port}", f"{state} ({name})"


def _lock(workspace: Path) -> Finding:
    try:
        noted = graph.locked_hashes(workspace)
    except graph.TornLock:
        said = "torn; delete it and run the pipeline: DVC finds every result in its cache"
        return False, "dvc.lock", said
    return True, "dvc.lock", f"{len(noted)} results noted"


def _artifacts(workspace: Path) -> Iterator[Finding]:
    """Whether folders still hold what their lineage says."""
    checked = altered = 0
    for path in sorted((workspace / "artifacts").rglob("lineage.json")):
        checked += 1
        if content_of(path.parent) != folder_hash(path.parent):
            altered += 1
            place = path.parent.relative_to(workspace)
            yield False, "artifacts", f"{place} was altered; 'dvc checkout --force' restores it"
    if not altered:
        yield True, "artifacts", f"{checked} folders hold what their lineage says"


def _registry(workspace: Path, catalogue: Catalogue) -> Iterator[Finding]:
    from flows.registry import registry

    store = registry(workspace)
    for pipeline in catalogue.pipelines:
        folders = {"base": workspace / "artifacts" / pipeline / "base"}
        adapters = workspace / "artifacts" / pipeline / "adapters"
        folders |= {name: adapters / name for name in catalogue.adapters_of(pipeline)}
        made = {name: folder for name, folder in folders.items() if folder.is_dir()}
        missing = [
            name
            for name, folder in made.items()
            if store.with_content(f"{pipeline}.{name}", content_of(folder)) is None
        ]
        said = f"{', '.join(missing)} not registered: run 'kindling register {pipeline}'"
        fine = f"{len(made)} artifacts of {pipeline} are registered"
        yield not missing, "registry", said if missing else fine


def running(workspace: Path) -> Iterator[tuple[str, str]]:
    """Stages and runs at work now: (name, process)."""
    state = workspace / ".kindling"
    for path in [state / "run.lock", *sorted((state / "locks").glob("*@*"))]:
        who = locks.holder(path)
        if who is not None:
            yield path.name, who


def _states(workspace: Path, stages: set[str], working: Collection[str]) -> dict[str, str]:
    """up to date or stale, as DVC finds; running, of those in `working`; waiting, for one of those:
    DVC cannot look at these.
    """
    begun = stages & set(working)
    waiting = graph.downstream(workspace, begun) if begun else set()
    asked = stages - waiting
    stale = graph.stale(workspace, sorted(asked) if waiting else ()) if asked else {}
    return {
        **{stage: "stale" if stage in stale else "up to date" for stage in asked},
        **dict.fromkeys(waiting, "waiting"),
        **dict.fromkeys(begun, "running"),
    }


def status(workspace: Path) -> dict[str, Any]:
    """What is up to date, what is at work, and what is registered and served."""
    from components.promotion import Releases
    from flows.registry import registry

    catalogue = load(workspace)
    graph.ensure_repository(workspace)
    expansion.renew(workspace, catalogue, lambda said: print(said, file=sys.stderr))
    working = dict(running(workspace))
    every = {name: catalogue.stages_of(name) for name in catalogue.targets}
    known = _states(workspace, {stage for stages in every.values() for stage in stages}, working)
    states = {name: {stage: known[stage] for stage in stages} for name, stages in every.items()}
    store = registry(workspace)
    told: dict[str, Any] = {
        "running": working,
        "ladders": {name: {"stages": states[name]} for name in catalogue.ladders},
        "pipelines": {},
    }
    for pipeline in catalogue.pipelines:
        models = ["base", *catalogue.adapters_of(pipeline)]
        versions = {name: store.versions(f"{pipeline}.{name}") for name in models}
        current = Releases(store, pipeline).current()
        release = None
        if current is not None:
            number, members = current
            release = {"number": number, "base": members.base, "adapters": dict(members.adapters)}
        told["pipelines"][pipeline] = {
            "stages": states[pipeline],
            "registered": {n: int(found[-1].version) for n, found in versions.items() if found},
            "release": release,
        }
    return told
