"""`kindling init`: a new workspace, inside a repository of kindling or anywhere else."""

import os
import shutil
import subprocess
from pathlib import Path

from components import lineage
from components.catalogue import FILE, load
from flows import graph

TEMPLATE = Path(__file__).parent / "template"
CODE = Path(lineage.__file__).resolve().parents[1]  # where the packages stand
IGNORED = "artifacts/\n.kindling/\n.prefect/\nmlflow.db*\nmlruns/\nfingerprints/\n"


class InitError(ValueError):
    """The folder cannot become a workspace."""


def make(directory: Path) -> None:
    """Make `directory` a workspace with the template's catalogue, under git and DVC.

    Raises:
        InitError: it holds something already.
        StageFailed: DVC refused.
    """
    if directory.exists() and any(directory.iterdir()):
        raise InitError(f"{directory} is not empty; name a new folder")
    directory.mkdir(parents=True, exist_ok=True)
    where = directory.resolve()
    root = os.path.relpath(CODE, where) if where.is_relative_to(CODE) else str(CODE)
    for source in TEMPLATE.iterdir():
        text = source.read_text(encoding="utf-8").replace("@ROOT@", root)
        (where / source.name).write_text(text, encoding="utf-8")
    graph_file = TEMPLATE.parent / "dvc.yaml"
    shutil.copy(graph_file if graph_file.is_file() else CODE / "dvc.yaml", where / "dvc.yaml")
    (where / ".gitignore").write_text(IGNORED, encoding="utf-8")
    inside = subprocess.run(
        ["git", "-C", str(where), "rev-parse"], capture_output=True, check=False
    )
    if inside.returncode != 0:
        subprocess.run(["git", "init", "-q", str(where)], check=True)
    graph.ensure_repository(where)
    assert load(where), FILE
