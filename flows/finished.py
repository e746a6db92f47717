"""What a stage keeps when it has ended: its checkpoints, until DVC has noted what it made.

Between a stage's end and DVC's note its result may still be lost: DVC, killed there, deletes what
the stage made before it runs it again. That run then goes on from the last checkpoint.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from components import locks
from components.lineage import read_json, write_json
from flows import graph, tracking


def checkpoints_of(workspace: Path, stage: str) -> Path:
    return workspace / ".kindling" / "checkpoints" / stage


def keep(workspace: Path, stage: str, output: str) -> None:
    """Keep the checkpoints of `stage`, if it wrote any, and the note of its MLflow run with them.

    output: the stage's folder, as `places` gives it.
    """
    if any(path.is_file() for path in checkpoints_of(workspace, stage).rglob("*")):
        path = f"artifacts/{output}"
        _mark(workspace, stage).parent.mkdir(parents=True, exist_ok=True)
        write_json(_mark(workspace, stage), {"path": path, "md5": dvc_hash(workspace / path)})
    else:
        drop(workspace, stage)


def drop(workspace: Path, stage: str) -> None:
    """Delete what `keep` kept."""
    tracking.run_note(workspace, stage).unlink(missing_ok=True)
    shutil.rmtree(checkpoints_of(workspace, stage), ignore_errors=True)
    forget(workspace, stage)


def forget(workspace: Path, stage: str) -> None:
    """Let `stage` count as one that is at work: its checkpoints are those of a run that goes on."""
    _mark(workspace, stage).unlink(missing_ok=True)


def noted(workspace: Path) -> list[str]:
    """The stages that have kept something and whose result DVC has noted.

    Raises:
        TornLock: see `graph.locked_hashes`.
    """
    marks = sorted((workspace / ".kindling" / "finished").glob("*.json"))
    hashes = graph.locked_hashes(workspace) if marks else {}
    found = []
    for mark in marks:
        with suppress(FileNotFoundError):  # its stage may drop it at any moment
            made = read_json(mark)
            if hashes.get(made["path"]) == made["md5"]:
                found.append(mark.stem)
    return found


def drop_noted(workspace: Path, stages: Iterable[str] | None = None) -> None:
    """Delete what stages have kept whose results DVC has noted: it said so of `stages`, or says so
    now.
    """
    for stage in noted(workspace) if stages is None else stages:
        with suppress(locks.Held), locks.hold(lock_of(workspace, stage)):
            if _mark(workspace, stage).is_file():
                drop(workspace, stage)


def lock_of(workspace: Path, stage: str) -> Path:
    """What a stage holds while it is made."""
    return workspace / ".kindling" / "locks" / stage


def dvc_hash(folder: Path) -> str:
    """The hash by which DVC notes `folder`: that of the list of its files and their hashes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    entries = [{"md5": _md5(p), "relpath": p.relative_to(folder).as_posix()} for p in files]
    entries.sort(key=lambda entry: entry["relpath"])
    listed = json.dumps(entries, sort_keys=True).encode()
    return f"{hashlib.md5(listed, usedforsecurity=False).hexdigest()}.dir"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _mark(workspace: Path, stage: str) -> Path:
    return workspace / ".kindling" / "finished" / f"{stage}.json"
