"""`kindling init`, the deployments, and the README's promises about them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.catalogue import load
from flows.workspace import InitError, make
from tests.conftest import ROOT


def test_init_makes_a_workspace_that_dvc_understands(tmp_path: Path):
    place = tmp_path / "mine"
    make(place)
    assert load(place).pipelines.keys() == {"quickstart"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(load(place).stages_of("quickstart")) <= set(done.stdout.split())
    with pytest.raises(InitError, match="is not empty"):
        make(place)


def test_every_command_of_the_readme_exists():
    """Each `kindling WORD` that the README names answers --help."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    from typer.main import get_command

    from flows.cli import app

    known = set(get_command(app).commands)
    named = {words.split()[0] for words in text.split("`kindling ")[1:] if words.split()}
    assert {name.strip("`,.;") for name in named} <= known
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for part in text.split("make ")[1:]:
        word = part.split()[0].strip("`,.")
        if part and f"    make {word}" in text:
            assert f"\n{word}:" in targets, word


@pytest.mark.parametrize("command", ["run", "serve", "trace", "registry", "init", "clean"])
def test_help_answers(command):
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", command, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0 and "Usage" in done.stdout


def test_a_wrong_interpreter_is_told_in_one_line():
    """A bare `dvc repro` takes whatever `python` comes first; -S is one without our packages."""
    bare = [sys.executable, "-S", "-m", "flows.stage", "corpus@quickstart"]
    done = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "activate that first ('source .venv/bin/activate')" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
