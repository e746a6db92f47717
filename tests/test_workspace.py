"""`kindling init`, the deployments, and the README's promises about them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.catalogue import load, parse
from flows import workspace
from flows.cli import app
from flows.workspace import TEMPLATE, InitError, make, pipeline_name
from tests.conftest import ROOT, give_store, isolate

DVC = [sys.executable, "-m", "dvc"]


def call(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_init_makes_a_workspace_that_dvc_understands(tmp_path: Path):
    """Its pipeline is not `quickstart`, whose registered names are the repository's."""
    place = tmp_path / "mine"
    assert make(place) == "mine"
    catalogue = load(place)
    assert catalogue.pipelines.keys() == {"mine"}
    assert catalogue.deployments[0]["name"] == "mine"
    assert "kindling run mine" in (place / "README.md").read_text()
    assert not (place / "dvc.yaml").is_symlink()
    listed = call(place, *DVC, "stage", "list", "--name-only").split()
    assert set(catalogue.stages_of("mine")) <= set(listed)
    with pytest.raises(InitError, match="is not empty"):
        make(place)


def test_init_in_a_repository_lets_git_overlook_what_is_kept_at_its_top(tmp_path: Path):
    """MLflow's store and Prefect's database lie there, for all workspaces."""
    call(tmp_path, "git", "init", "-q")
    (tmp_path / ".gitignore").write_text("mine\nmlruns/", encoding="utf-8")
    said = []
    make(tmp_path / "below" / "first", said.append)
    text = (tmp_path / ".gitignore").read_text(encoding="utf-8")
    assert text.split() == ["mine", "mlruns/", "/.kindling/", "/.prefect/", "/mlflow.db*"]
    assert len(said) == 1 and "/mlflow.db*" in said[0]
    make(tmp_path / "below" / "second", said.append)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("mine", "mine"),
        ("My films, 2nd", "My-films-2nd"),
        ("2024", "pipeline-2024"),
        ("no", "pipeline-no"),
        ("datasets", "pipeline-datasets"),
        ("日本", "pipeline"),
    ],
)
def test_a_pipeline_is_named_like_its_folder(tmp_path: Path, folder, name):
    """Such names must stay text in YAML, and pass as the catalogue's."""
    assert pipeline_name(folder) == name
    text = (TEMPLATE / "pipelines.yaml").read_text(encoding="utf-8")
    catalogue = parse(text.replace("quickstart", name))
    assert catalogue.pipelines.keys() == {name}
    assert catalogue.deployments[0]["parameters"] == {"pipeline": name}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of kindling with the files that `init` looks for."""
    folder = tmp_path / "repository"
    for name in ("components", "flows"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pipelines.yaml", folder)
    (folder / "dvc.yaml").symlink_to("flows/graph.yaml")
    call(folder, "git", "init", "-q")
    call(folder, *DVC, "init", "-q")
    monkeypatch.setattr(workspace, "CODE", folder)
    return folder


def test_init_inside_the_repository_shares_graph_and_cache(repository: Path):
    place = repository / "recipes" / "films"
    assert make(place) == "films"
    assert (place / "dvc.yaml").readlink() == Path("../../dvc.yaml")
    assert call(place, *DVC, "cache", "dir").strip() == str(repository / ".dvc" / "cache")
    assert str(repository) not in (place / ".dvc" / "config").read_text()
    catalogue = load(place)
    assert catalogue.root == "../.."
    assert not catalogue.prompts.keys() & load(repository, check_files=False).prompts.keys()
    listed = call(place, *DVC, "stage", "list", "--name-only").split()
    assert set(load(place).stages_of("films")) <= set(listed)
    (place / "mine.txt").write_text("text")
    call(place, *DVC, "add", "-q", "mine.txt")
    assert [p.is_file() for p in (repository / ".dvc" / "cache" / "files").glob("*/*/*")] == [True]


def test_init_refuses_a_name_that_the_registry_would_refuse(repository: Path):
    with pytest.raises(InitError, match="'quickstart' is a pipeline of"):
        make(repository / "recipes" / "quickstart")
    assert not (repository / "recipes").exists()


@pytest.mark.slow
def test_an_installed_wheel_has_what_a_workspace_needs(tmp_path: Path, monkeypatch):
    """Without the graph, versions and pages among the package data, only a checkout would work."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("components", "flows"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    site, place = tmp_path / "site", tmp_path / "mine"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    call(tmp_path, *pip, "--no-index", "--target", str(site), str(source))
    for package in ("components", "flows"):
        wanted = (p for p in (source / package).rglob("*") if p.is_file())
        missing = [p for p in wanted if not (site / p.relative_to(source)).is_file()]
        assert not missing
    isolate(monkeypatch, give_store(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(site))
    call(tmp_path, sys.executable, "-m", "flows.cli", "init", str(place))
    assert load(place).root == str(site)
    call(place, *DVC, "repro", "-q", "dataset@reviews")
    assert (place / "artifacts" / "datasets" / "reviews").is_dir()


def test_every_command_of_the_readme_exists():
    """Each `kindling WORD` that the README names answers --help."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    from typer.main import get_command

    known = set(get_command(app).commands)
    named = {words.split()[0] for words in text.split("`kindling ")[1:] if words.split()}
    assert {name.strip("`,.;") for name in named} <= known
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for part in text.split("make ")[1:]:
        word = part.split()[0].strip("`,.")
        if part and f"    make {word}" in text:
            assert f"\n{word}:" in targets, word


def command_lines() -> set[str]:
    """Each `kindling ...` of README and docs, without what stands around it."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), TEMPLATE / "README.md"]
    found = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found |= set(re.findall(r"`(?:[^`\n]* && )?(kindling [^`\n]+)`", text))
        found |= set(re.findall(r"^    (?:.* && )?(kindling [^#\n]+)", text, re.MULTILINE))
        for row in re.findall(r"^\| (`kindling .*)", text, re.MULTILINE):
            found |= set(_of_row(row))
    return {line.strip() for line in found}


def _of_row(row: str) -> Iterator[str]:
    """What a table shortens: `kindling keys add NAME`, `list`; or an option in the next column."""
    (first, *others), does = (re.findall("`([^`]+)`", cell) for cell in row.split(" | ")[:2])
    words = first.split()
    group = words[:2] if words[1] in ("registry", "keys") else words[:1]
    yield from (" ".join([*group, other]) for other in others if not other.startswith("kindling "))
    yield from (f"{first} {option}" for option in does if option.startswith("--"))


def test_every_option_of_the_docs_exists(tmp_path, monkeypatch):
    """The command itself reads each line: --help behind it ends it before any work."""
    monkeypatch.setattr("flows.settings.apply", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").mkdir()  # of `kindling -C DIR`

    def reads(line: str) -> bool:
        words = shlex.split(line)[1:]
        return CliRunner().invoke(app, [*words, "--help"]).exit_code == 0

    lines = command_lines()
    assert {
        "kindling serve quickstart --alias candidate",
        "kindling serve quickstart --base DIR --adapter NAME=DIR",
        "kindling registry promote quickstart.lora 2 --reason WHY",
        "kindling evaluate quickstart --harness TASK.yaml --json FILE",
        "kindling keys revoke NAME",
        "kindling clean",
    } <= lines
    assert [line for line in sorted(lines) if not reads(line)] == []
    assert not reads("kindling run quickstart --forced") and not reads("kindling registry drop")


@pytest.mark.parametrize(
    "words", ["run --help", "serve --help", "trace -h", "registry list -h", "init -h", "clean -h"]
)
def test_help_answers(words):
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words.split()],
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
