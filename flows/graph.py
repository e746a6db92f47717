"""DVC as kindling uses it: what is stale, run one stage, what a file's change would rebuild."""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

# patient: else DVC gives up after three seconds, also on the result of a stage that has ended
DVC = [sys.executable, "-m", "dvc", "--wait-for-lock"]
TAIL_LINES = 25
HINTS = (  # what DVC says after every stage, to whoever types commands one by one
    "Generating lock file",
    "Updating lock file",
    "To track the changes",
    "git add ",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
)
KILLED = "\nit was killed (out of memory?); the same command goes on from its last checkpoint"
_calls: set[subprocess.Popen] = set()  # those at work in this process


class StageFailed(RuntimeError):
    """A stage ended with an error; the message holds the end of its output."""


class TornLock(RuntimeError):
    """`dvc.lock` is half-written; the message says how to go on."""


class Busy(RuntimeError):
    """DVC is at work on the same files for another process: waiting helps."""


def call(workspace: Path, *arguments: str) -> str:
    """What a DVC command prints.

    Raises:
        Busy: another DVC process works on the same files.
        StageFailed: it failed; with what it said.
    """
    done = subprocess.run(
        [*DVC, *arguments], cwd=workspace, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout
    if _is_busy(done.stderr):
        raise Busy(
            f"dvc {arguments[0]}: a stage is at work on the same files; see 'kindling status', and "
            "try again when it is done"
        )
    raise StageFailed(f"dvc {' '.join(arguments)} failed:\n{done.stderr.strip()}")


def _is_busy(said: str) -> bool:
    return "Unable to acquire lock" in said or "is busy, it is being" in said


def ensure_repository(workspace: Path) -> None:
    """Make `workspace` a DVC repository if it is none.

    Raises:
        StageFailed: DVC refused.
    """
    if (workspace / ".dvc").is_dir():
        return
    inside = subprocess.run(
        ["git", "-C", str(workspace), "rev-parse", "--show-prefix"],
        capture_output=True,
        text=True,
        check=False,
    )
    scm = [] if inside.returncode == 0 else ["--no-scm"]
    sub = ["--subdir"] if inside.returncode == 0 and inside.stdout.strip() else []
    call(workspace, "init", "-q", *scm, *sub)
    call(workspace, "config", "core.analytics", "false")


def stale(workspace: Path, stages: Collection[str] = ()) -> dict[str, list]:
    """The stages and pointers that are not up to date, each with DVC's reasons. One call.

    stages: of these alone; by default of all.

    Raises:
        Busy: a process works on files of theirs.
        StageFailed: DVC refused.
    """
    return json.loads(call(workspace, "status", "--json", *stages) or "{}")


def downstream(workspace: Path, names: Collection[str]) -> set[str]:
    """The stages `names`, and all that are made of what they make."""
    from dvc.repo import Repo

    with Repo(str(workspace)) as repo:
        graph = repo.index.graph  # edges lead from a stage to those that it depends on
        begun = [stage for stage in graph if stage.cmd and stage.name in names]
        return {stage.name for stage in _with_what_is_made_of(graph, begun) if stage.cmd}


def _with_what_is_made_of(graph, stages: Collection) -> set:
    import networkx

    return set(stages).union(*(networkx.ancestors(graph, stage) for stage in stages))


def reproduce(
    workspace: Path,
    stage: str,
    environment: dict[str, str],
    say: Callable[[str], None],
    force: bool = False,
    upstream: bool = False,
) -> None:
    """Bring one stage up to date (with `upstream`, what it depends on first).

    Its output is handed to `say` line by line as it comes. The process group of DVC and its stage
    ends with this call, however it ends, or with `end_calls`.

    Raises:
        StageFailed: with the last lines of the stage's output.
        Busy: another DVC process works on the same files.
    """
    single = [] if upstream else ["--single-item"]
    command = [*DVC, "repro", *single, *(["--force"] if force else []), stage]
    process = subprocess.Popen(
        command,
        cwd=workspace,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    _calls.add(process)
    try:
        for line in process.stdout:
            line = line.strip()
            if line and not line.startswith(HINTS):
                tail.append(line)
                say(line)
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        _calls.discard(process)
    if code == 0:
        return
    text = "\n".join(tail)
    if _is_busy(text):
        raise Busy(f"DVC is busy with {stage}: {text}")
    killed = KILLED if f"exited with -{signal.SIGKILL:d}" in text else ""
    raise StageFailed(f"stage {stage} failed (exit {code}); the end of its output:\n{text}{killed}")


def end_calls() -> None:
    """End every call of `reproduce` in this process, as an interrupted flow must: it waits in a
    thread, where no signal reaches it.
    """
    for process in list(_calls):
        _end(process)


def _end(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()


def affected(workspace: Path, path: str) -> list[str]:
    """The stages that a change of the file or folder `path` would rebuild, in order.

    Raises:
        ValueError: no stage depends on `path`.
    """
    import networkx
    from dvc.repo import Repo

    target = (workspace / path).resolve()
    with Repo(str(workspace)) as repo:
        graph = repo.index.graph  # edges lead from a stage to those that it depends on
        touched = {stage for stage in graph if _reads(stage, target, workspace)}
        if not touched:
            raise ValueError(f"no stage depends on '{path}'; 'dvc dag' draws those that exist")
        rebuilt = _with_what_is_made_of(graph, touched)
        order = list(networkx.dfs_postorder_nodes(graph))
        return [stage.name for stage in order if stage in rebuilt and stage.cmd]


def _reads(stage, target: Path, workspace: Path) -> bool:
    for dependency in [*stage.deps, *(out for out in stage.outs if not stage.cmd)]:
        if not dependency.fs_path:
            continue
        path = Path(workspace, dependency.fs_path).resolve()
        if path == target or path in target.parents:
            return True
    return False


def locked_hashes(workspace: Path, wait: bool = True) -> dict[str, str]:
    """DVC's hash of each stage output, by its path in the workspace, as `dvc.lock` has them.

    wait: until another DVC process lets go of the file, however long; else for three seconds.

    Raises:
        TornLock: the file is torn.
        Busy: another DVC process did not let go of it.
    """
    stages = _read_lock(workspace, wait).get("stages", {})
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return {out["path"]: out["md5"] for out in outs if "md5" in out}


def drop_torn_lock(workspace: Path) -> bool:
    """Delete a `dvc.lock` that a killed DVC left half-written; whether there was one.

    Nothing is lost: DVC finds every result by its inputs in the run cache, and runs none anew.
    """
    try:
        _read_lock(workspace)
    except TornLock:
        (workspace / "dvc.lock").unlink()
        return True
    return False


def _read_lock(workspace: Path, wait: bool = True) -> dict:
    """`dvc.lock`, read under DVC's own lock: DVC writes it in place, maybe for another stage."""
    from dvc.lock import LockError, make_lock
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from voluptuous import Invalid

    file = workspace / "dvc.lock"
    if not file.is_file():
        return {}
    guard = workspace / ".dvc" / "tmp" / "lock"
    guard.parent.mkdir(parents=True, exist_ok=True)
    try:
        with make_lock(str(guard), wait=wait):
            text = file.read_text(encoding="utf-8")
    except LockError:
        raise Busy(f"DVC is at work in {workspace}; ask again when it has ended") from None
    try:
        return COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text))
    except (YAMLError, Invalid) as error:
        raise TornLock(
            f"{file} is torn ({str(error).splitlines()[0]}); delete it and run the same command "
            "again: DVC finds the results in its cache and runs nothing anew"
        ) from None
