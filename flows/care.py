"""Looking after a workspace: `doctor` finds what is wrong, `status` says what is, `clean` frees."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from components.catalogue import FILE, Catalogue, load
from components.lineage import content_of, folder_hash, read_json
from flows import disk, graph, locks, settings, tracking
from flows.tracking import PARENT, UNOWNED

if TYPE_CHECKING:
    from mlflow.entities import Run

TOP = Path(__file__).parents[1]  # the repository; what an installed package lacks is not there
SERVING = 8000  # the default of `kindling serve`
LOST = ("FAILED", "KILLED")
LIVING = ("FINISHED", "RUNNING")
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
        state = f"in use by {port_holder(port)}" if _taken(port) else "free"
        yield True, f"port {port}", f"{state} ({name})"


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def port_holder(port: int) -> str:
    """Who listens on `port`, as far as the system tells."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listens and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f"process {connection.pid} ({command[:120]})"
    except psutil.Error:  # another user's, or it ended meanwhile
        pass
    return "another process"


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
    from flows.release import registry

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


def status(workspace: Path) -> dict[str, Any]:
    """What is up to date, what is at work, and what is registered and served."""
    from flows.release import registry

    catalogue = load(workspace)
    graph.ensure_repository(workspace)
    stale = graph.stale(workspace)
    store = registry(workspace)
    told: dict[str, Any] = {"running": dict(running(workspace)), "pipelines": {}}
    for pipeline in catalogue.pipelines:
        stages = catalogue.stages_of(pipeline)
        models = ["base", *catalogue.adapters_of(pipeline)]
        versions = {name: store.versions(f"{pipeline}.{name}") for name in models}
        current = store.current(pipeline)
        release = None
        if current is not None:
            number, members = current
            release = {"number": number, "base": members.base, "adapters": dict(members.adapters)}
        told["pipelines"][pipeline] = {
            "stages": {s: "stale" if s in stale else "up to date" for s in stages},
            "registered": {n: int(found[-1].version) for n, found in versions.items() if found},
            "release": release,
        }
    return told


def leftovers(workspace: Path) -> dict[str, list[Path]]:
    """What `clean` may delete: folders and files by what they are."""
    state = workspace / ".kindling"
    busy = {name for name, _ in running(workspace)}
    idle = [
        path
        for kind in ("checkpoints", "work")
        for path in sorted((state / kind).glob("*@*"))
        if path.name not in busy
    ]
    return {
        "checkpoints and half-written folders of stages that do not run": idle,
        "evaluations made for the gate": sorted((state / "rejudged").glob("*")),
    }


def lost_runs(workspace: Path) -> list["Run"]:
    """MLflow runs of this workspace that failed or were killed and lead nowhere.

    Kept are those that a stage could still resume, that lineage or a registered version refers to,
    and parents of a run that finished.
    """
    from mlflow.entities import ViewType

    from components.registry import CONTENT

    mlflow = tracking.client(workspace)
    names = [*load(workspace).pipelines, UNOWNED]
    found = [mlflow.get_experiment_by_name(name) for name in names]
    experiments = [experiment.experiment_id for experiment in found if experiment]
    runs = list(mlflow.search_runs(experiments, run_view_type=ViewType.ALL, max_results=50_000))
    kept = {version.run_id for version in mlflow.search_model_versions()}
    notes = (workspace / ".kindling" / "open_runs").glob("*.json")
    kept |= {read_json(note)["run_id"] for note in notes}
    kept |= {run.data.tags.get(PARENT, "") for run in runs if run.info.status in LIVING}
    return [
        run
        for run in runs
        if (run.info.status in LOST or run.info.lifecycle_stage == "deleted")
        and run.info.run_id not in kept
        and CONTENT not in run.data.tags
    ]


def forget(workspace: Path, runs: list["Run"]) -> None:
    """Delete MLflow runs with their artifacts. A server's are only marked, for its own `mlflow gc`.

    Raises:
        OSError: MLflow refused.
    """
    mlflow = tracking.client(workspace)
    for run in runs:
        if run.info.lifecycle_stage == "active":
            mlflow.delete_run(run.info.run_id)
    uri = settings.tracking_uri(workspace)
    if not runs or uri.startswith("http"):
        return
    ids = ",".join(run.info.run_id for run in runs)
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--run-ids", ids]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"'mlflow gc' failed:\n{done.stderr[-1000:]}")


def size(path: Path) -> int:
    """Bytes below `path`."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file())


def clean(workspace: Path, paths: list[Path], runs: list["Run"]) -> None:
    """Delete `paths`, MLflow's `runs`, and what no workspace of the repository uses in DVC's cache.

    Raises:
        Held: a run is at work.
    """
    with locks.hold(workspace / ".kindling" / "run.lock"):
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)
        forget(workspace, runs)
        graph.call(workspace, "gc", "--workspace", "--force", *_mates(workspace))


def unused_cache(workspace: Path) -> str:
    """What DVC says it would delete from its cache."""
    return graph.call(
        workspace, "gc", "--workspace", "--force", "--dry", *_mates(workspace)
    ).strip()


def _mates(workspace: Path) -> list[str]:
    """DVC's options that keep what the other workspaces of the repository use."""
    others = [path for path in workspaces(workspace) if path.resolve() != workspace.resolve()]
    return ["--projects", *map(str, others)] if others else []


def workspaces(workspace: Path) -> list[Path]:
    """All workspaces that share this one's DVC cache."""
    top = settings.home(workspace)
    listed = ["git", "-C", str(top), "ls-files", "-z", "-c", "-o", "--exclude-standard"]
    wanted = [FILE, f"**/{FILE}"]
    done = subprocess.run([*listed, *wanted], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [workspace]  # no repository: nobody shares anything
    found = {(top / name).parent for name in done.stdout.split("\0") if name}
    return sorted(path for path in found if (path / ".dvc").is_dir())
