"""The flow's first task: the data is there, and it is the data that its pointer names."""

import hashlib
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ruamel.yaml import YAML

from components.catalogue import Catalogue, pointer_of
from components.dataset import Dataset
from flows.graph import DVC, call


class DataError(RuntimeError):
    """Data is missing or was changed; the message names the command that mends it."""


def check(
    workspace: Path,
    catalogue: Catalogue,
    datasets: list[str],
    stale: Mapping[str, list],
    say: Callable[[str], None],
    files: Iterable[str] = (),
) -> dict[str, str]:
    """Bring the data sets named, and `files` of the workspace, to the state of their pointers.

    What is missing is pulled. A changed data set is versioned (`dvc add`) or refused, by its
    `on_change`; a changed file is refused. stale: DVC's answer to what is not up to date.

    Returns what was done, by data set or file.

    Raises:
        DataError: data is missing and no remote has it, or changed and the catalogue refuses.
    """
    pointers: dict[Path, list[str]] = {}
    paths = {**{n: catalogue.datasets[n].path for n in datasets}, **{f: f for f in files}}
    for name, path in paths.items():
        pointer = pointer_of(workspace, path)
        if pointer is not None:
            pointers.setdefault(pointer, []).append(name)
    done = {}
    for pointer, names in pointers.items():
        relative = pointer.relative_to(workspace).as_posix()
        if relative in stale:
            action = _mend(workspace, relative, catalogue, names)
            say(f"{relative}: {action}")
            done.update(dict.fromkeys(names, action))
    return done


def _mend(workspace: Path, pointer: str, catalogue: Catalogue, names: list[str]) -> str:
    target = workspace / pointer.removesuffix(".dvc")
    if not target.exists():
        return _bring(workspace, pointer)
    sets = [name for name in names if name in catalogue.datasets]
    if not sets or any(catalogue.datasets[name].on_change == "refuse" for name in sets):
        told = f" (or set datasets.{sets[0]}.on_change=version)" if sets else ""
        raise DataError(
            f"{target.relative_to(workspace)} differs from its pointer {pointer}; to keep the "
            f"change as a new version run 'dvc add {pointer.removesuffix('.dvc')}'{told}, "
            f"to drop it 'dvc checkout --force {pointer}'"
        )
    call(workspace, "add", "-q", pointer.removesuffix(".dvc"))
    return "changed: versioned"


def _bring(workspace: Path, pointer: str) -> str:
    for command, action in (("checkout", "taken from the cache"), ("pull", "pulled")):
        done = subprocess.run(
            [*DVC, command, "-q", pointer],
            cwd=workspace,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 and (workspace / pointer.removesuffix(".dvc")).exists():
            return action
    raise DataError(
        f"{pointer.removesuffix('.dvc')} is missing and could not be pulled "
        f"({done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no reason given'}); "
        f"add a remote that has it ('dvc remote add -d NAME URL') and run 'dvc pull {pointer}'"
        f"{_read(workspace, pointer)}"
    )


def _read(workspace: Path, pointer: str) -> str:
    """Where to read of data that cannot be pulled, if there is such a file."""
    note = Path(pointer).with_name("README.md")
    return f"; {note} says where it comes from" if (workspace / note).is_file() else ""


def version_of(workspace: Path, block: Dataset) -> dict[str, str]:
    """The hash that DVC has for the data of `block`, by its path: the pointer's, or of the file.

    Empty for the embedded world, which is code, and for a folder without a pointer.
    """
    if block.format == "world":
        return {}
    pointer = pointer_of(workspace, block.path)
    if pointer is not None:
        outs = YAML(typ="safe").load(pointer.read_text(encoding="utf-8"))["outs"]
        return {pointer.relative_to(workspace).as_posix().removesuffix(".dvc"): outs[0]["md5"]}
    path = workspace / block.path
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        return {block.path: hashlib.file_digest(file, "md5").hexdigest()}
