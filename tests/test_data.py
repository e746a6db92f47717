"""The flow's first task: data behind DVC pointers, missing, changed, or on a remote."""

import subprocess
import sys
from pathlib import Path

import pytest

from components.catalogue import load
from flows import data, disk, graph

DVC = [sys.executable, "-m", "dvc"]


def call(workspace: Path, *command: str) -> None:
    subprocess.run([*DVC, *command], cwd=workspace, check=True, capture_output=True)


@pytest.fixture
def versioned(tiny_workspace, tmp_path) -> Path:
    """The tiny workspace with its reviews behind a pointer, and a remote that has them."""
    call(tiny_workspace, "add", "-q", "data/reviews.jsonl")
    call(tiny_workspace, "remote", "add", "-d", "store", str(tmp_path / "remote"))
    call(tiny_workspace, "push", "-q", "data/reviews.jsonl")
    return tiny_workspace


def check(workspace: Path) -> dict[str, str]:
    catalogue = load(workspace, check_files=False)
    return data.check(workspace, catalogue, ["reviews"], graph.stale(workspace), print)


def lose(workspace: Path, cache: bool) -> bytes:
    """Delete the data, from DVC's cache too if `cache`; return what it was."""
    path = workspace / "data" / "reviews.jsonl"
    held = path.read_bytes()
    path.unlink()
    if cache:
        for file in (workspace / ".dvc" / "cache").rglob("*"):
            if file.is_file():
                file.unlink()
    return held


@pytest.mark.parametrize(("cache", "action"), [(False, "taken from the cache"), (True, "pulled")])
def test_missing_data_is_brought(versioned, cache, action):
    held = lose(versioned, cache)
    assert check(versioned) == {"reviews": action}
    assert (versioned / "data" / "reviews.jsonl").read_bytes() == held
    assert check(versioned) == {}


def test_data_that_no_remote_has_is_told_with_the_command_that_brings_it(versioned):
    lose(versioned, cache=True)
    call(versioned, "remote", "remove", "store")
    with pytest.raises(data.DataError, match=r"dvc pull data/reviews\.jsonl\.dvc'$"):
        check(versioned)
    (versioned / "data" / "README.md").write_text("from there", encoding="utf-8")
    with pytest.raises(data.DataError, match=r"; data/README\.md says where it comes from$"):
        check(versioned)


def change(workspace: Path) -> None:
    path = workspace / "data" / "reviews.jsonl"
    text = path.read_text(encoding="utf-8")
    path.unlink()  # DVC may have linked it to its cache
    path.write_text(text.replace("film 7 ", "film 7007 "), encoding="utf-8")


def test_changed_data_is_refused_with_both_ways_out(versioned):
    change(versioned)
    with pytest.raises(data.DataError) as refused:
        check(versioned)
    for words in ("dvc add data/reviews.jsonl", "dvc checkout --force", "on_change=version"):
        assert words in str(refused.value)


def test_changed_data_is_versioned_where_the_catalogue_says_so(versioned):
    catalogue = versioned / "pipelines.yaml"
    text = catalogue.read_text(encoding="utf-8")
    catalogue.write_text(text.replace("text: review\n", "text: review\n    on_change: version\n"))
    before = (versioned / "data" / "reviews.jsonl.dvc").read_text()
    change(versioned)
    assert check(versioned) == {"reviews": "changed: versioned"}
    assert (versioned / "data" / "reviews.jsonl.dvc").read_text() != before


def test_too_little_disk_is_told_before_work(tmp_path):
    disk.require(tmp_path, 0.001)
    with pytest.raises(OSError, match="asks for 1000000000"):
        disk.require(tmp_path, 10**9)


def test_a_file_that_rungs_are_measured_by_is_brought_like_data(tmp_path):
    """It is no data set: its pointer alone says what it should be."""
    from components.catalogue import parse
    from flows import graph

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "questions.txt").write_text(": capitals\nParis France Rome Italy\n")
    for command in (["init", "-q", "--no-scm"], ["add", "-q", "data/questions.txt"]):
        graph.call(tmp_path, *command)
    catalogue = parse("root: .\ncompute: {threads: 1, jobs: 1}\ndatasets: {}\n")
    path = "data/questions.txt"
    (tmp_path / path).unlink()
    done = data.check(tmp_path, catalogue, [], graph.stale(tmp_path), print, [path])
    assert done == {path: "taken from the cache"} and (tmp_path / path).is_file()
    (tmp_path / path).unlink()
    (tmp_path / path).write_text("changed\n")
    with pytest.raises(data.DataError, match=r"data/questions\.txt differs from its pointer"):
        data.check(tmp_path, catalogue, [], graph.stale(tmp_path), print, [path])
