"""What the commands say and write, beside the work that other tests hold them to."""

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from rich.console import Console
from typer.testing import CliRunner

from components.catalogue import load
from flows import cli, evaluation, settings, summary
from tests.conftest import ROOT

RUNNER = CliRunner()


def test_the_version_is_the_installed_one():
    done = RUNNER.invoke(cli.app, ["--version"])
    assert done.exit_code == 0 and done.stdout == f"kindling {metadata.version('kindling')}\n"


def test_scores_are_printed_as_json_alone(tiny_workspace, monkeypatch):
    """`--json -` wrote a file of that name."""
    figures = {"metric": "accuracy", "score": 0.5, "interval": [0.4, 0.6]}
    monkeypatch.setattr(evaluation, "evaluate", lambda *_: iter([("lora", figures)]))
    command = ["-C", str(tiny_workspace), "evaluate", "quickstart", "--json"]
    assert json.loads(RUNNER.invoke(cli.app, [*command, "-"]).stdout) == {"lora": figures}
    file = tiny_workspace / "scores.json"
    assert "accuracy 0.500" in RUNNER.invoke(cli.app, [*command, str(file)]).stdout
    assert json.loads(file.read_text(encoding="utf-8")) == {"lora": figures}


def test_a_store_that_does_not_answer_is_told_in_a_line(monkeypatch):
    """It was a traceback, after minutes."""

    def app() -> None:
        raise MlflowException("connection refused")

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@nowhere:5000")
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as told:
        cli.main()
    said = "kindling: MLflow at http://nowhere:5000 does not answer: connection refused; see that"
    assert str(told.value).startswith(said)


def test_clean_names_what_it_deletes():
    said = " ".join(RUNNER.invoke(cli.app, ["clean", "--help"]).stdout.split())
    for word in ("checkpoints", "MLflow runs", "DVC's cache", "trials"):
        assert word in said, word


def test_what_may_be_typed_next_can_be(tmp_path, monkeypatch):
    """After `make quickstart` no shell knew `kindling`."""
    script = tmp_path / ".venv" / "bin" / "activate"
    script.parent.mkdir(parents=True)
    script.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / ".venv"))
    assert settings.activation() is None
    monkeypatch.delenv("VIRTUAL_ENV")
    assert settings.activation() == "source .venv/bin/activate"
    following = summary._following(load(ROOT, check_files=False), "quickstart")
    assert following[0] == "open artifacts/quickstart/report/index.html"
    said: list[str] = []
    monkeypatch.setattr(Console, "print", lambda _, text, **__: said.append(str(text).strip()))
    outcome = {"pipeline": "a", "stages": [], "scores": [], "expectations": [], "seconds": 1}
    summary.text({**outcome, "next": following})
    assert said[-len(following) - 1 :] == ["source .venv/bin/activate", *following]
    monkeypatch.setattr(sys, "prefix", str(Path("/nowhere")))
    assert settings.activation() is None
