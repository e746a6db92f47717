"""`kindling init`: a new workspace, inside a repository of kindling or anywhere else."""

import os
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from components import lineage
from components.catalogue import FILE, CatalogueError, load
from components.crosschecks import FOLDERS
from flows import expansion, graph, settings

TEMPLATE = Path(__file__).parent / "template"
TEMPLATE_PIPELINE = "quickstart"  # what the template calls its pipeline and its deployment
CODE = Path(lineage.__file__).resolve().parents[1]  # where the packages stand
SHARED = (".kindling/", ".prefect/", "mlflow.db*", "mlruns/")  # by a repository's workspaces
IGNORED = "\n".join(["artifacts/", *SHARED, "fingerprints/", "feedback/", ""])
YAML_WORDS = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")  # not read as text


class InitError(ValueError):
    """The folder cannot become a workspace."""


def make(directory: Path, say: Callable[[str], None] = print) -> str:
    """Make `directory` a workspace with the template's catalogue, under git and DVC.

    Inside kindling's repository it shares graph and cache with the other workspaces. Returns its
    pipeline's name, made from the folder's: registered names are shared as well.

    Raises:
        InitError: it holds something already, or its name is another workspace's pipeline.
        StageFailed: DVC refused.
    """
    if directory.exists() and not directory.is_dir():
        raise InitError(f"{directory} is a file; name a new folder")
    if directory.exists() and any(directory.iterdir()):
        raise InitError(f"{directory} is not empty; name a new folder")
    where = directory.resolve()
    inside = where.is_relative_to(CODE) and (CODE / ".dvc").is_dir()
    name = pipeline_name(where.name)
    if inside:
        _require_free(name)
    where.mkdir(parents=True, exist_ok=True)
    root = os.path.relpath(CODE, where) if inside else str(CODE)
    for source in TEMPLATE.iterdir():
        text = source.read_text(encoding="utf-8").replace("@ROOT@", root)
        text = text.replace(TEMPLATE_PIPELINE, name)
        (where / source.name).write_text(text, encoding="utf-8")
    (where / ".gitignore").write_text(IGNORED, encoding="utf-8")
    expansion.link(where, CODE)
    _put_under_version_control(where)
    _ignore_shared(settings.home(where), say)
    if inside:
        graph.call(where, "cache", "dir", os.path.relpath(CODE / ".dvc" / "cache", where))
    assert load(where), FILE
    return name


def pipeline_name(folder: str) -> str:
    """A pipeline's name like that of its folder: one that catalogue and YAML take for a name."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder).strip("-_")
    if name[:1].isalpha() and name.lower() not in YAML_WORDS and name not in FOLDERS:
        return name
    return f"pipeline-{name}".rstrip("-")


def _require_free(name: str) -> None:
    """The registry would refuse the name as well, but only after the training."""
    for other in workspaces(CODE):
        with suppress(CatalogueError):  # its own business
            if name in load(other, check_files=False).targets:
                raise InitError(
                    f"'{name}' is a pipeline of {other / FILE} and the folder's name would be one "
                    "too; name the folder otherwise"
                )


def _put_under_version_control(where: Path) -> None:
    inside = subprocess.run(
        ["git", "-C", str(where), "rev-parse"], capture_output=True, check=False
    )
    if inside.returncode != 0:
        subprocess.run(["git", "init", "-q", str(where)], check=True)
    graph.ensure_repository(where)


def _ignore_shared(top: Path, say: Callable[[str], None]) -> None:
    """Let git overlook what all workspaces of the repository at `top` keep there."""
    file = top / ".gitignore"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    known = {line.strip().lstrip("/") for line in text.splitlines()}
    missing = [f"/{name}" for name in SHARED if name not in known]
    if missing:
        begun = f"{text.rstrip()}\n" if text.strip() else ""
        file.write_text(begun + "\n".join([*missing, ""]), encoding="utf-8")
        say(f"{file} now ignores {', '.join(missing)}, which workspaces keep there")


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
