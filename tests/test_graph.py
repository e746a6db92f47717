"""`dvc.lock` as other processes write it: never read half, and never in the way when torn."""

import logging
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from components.lineage import write_json
from flows import graph

STAGE = """\
  stage{n}:
    cmd: make {n}
    outs:
    - path: artifacts/{n}
      hash: md5
      md5: {n:032d}.dir
      size: 1
"""
STAGES = 40
WHOLE = "schema: '2.0'\nstages:\n" + "".join(STAGE.format(n=n) for n in range(STAGES))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / "dvc.lock").write_text(WHOLE, encoding="utf-8")
    return tmp_path


def _rewrite(workspace: Path, seconds: float) -> None:
    """Write the lock file as DVC does: in place, piece by piece, under its own lock."""
    from dvc.lock import make_lock

    ended = time.monotonic() + seconds
    while time.monotonic() < ended:
        with (
            make_lock(str(workspace / ".dvc" / "tmp" / "lock"), wait=True),
            (workspace / "dvc.lock").open("w", encoding="utf-8") as file,
        ):
            for start in range(0, len(WHOLE), 1000):
                file.write(WHOLE[start : start + 1000])
                file.flush()
                time.sleep(0.002)
        time.sleep(0.01)


def test_a_lock_file_at_work_is_never_read_half(workspace):
    """Stages side by side once failed here: one read what another's DVC was writing."""
    writer = multiprocessing.get_context("spawn").Process(target=_rewrite, args=(workspace, 3.0))
    writer.start()
    read = 0
    while writer.is_alive():
        assert len(graph.locked_hashes(workspace)) == STAGES
        read += 1
    writer.join()
    assert writer.exitcode == 0
    assert read


def test_who_does_not_wait_for_dvc_is_told_that_it_is_busy(workspace):
    from dvc.lock import make_lock

    from components.serving.engine import RequestError
    from flows import serving

    (workspace / "fingerprints").mkdir()
    write_json(workspace / "fingerprints" / f"{'0' * 16}.json", {"base": {}})
    with make_lock(str(workspace / ".dvc" / "tmp" / "lock")):
        with pytest.raises(graph.Busy, match="DVC is at work"):
            graph.locked_hashes(workspace, wait=False)
        with pytest.raises(RequestError, match="DVC is at work") as told:
            serving._lineage(workspace, f"fp_{'0' * 16}")
    assert told.value.code == "registry_unavailable" and told.value.retry_seconds


@pytest.mark.parametrize("length", [0, 5, 30, 60])
def test_a_torn_lock_file_is_named_and_dropped(workspace, length):
    (workspace / "dvc.lock").write_text(WHOLE[:length], encoding="utf-8")
    with pytest.raises(graph.TornLock, match=r"dvc\.lock is torn .*delete it"):
        graph.locked_hashes(workspace)
    assert graph.drop_torn_lock(workspace)
    assert graph.locked_hashes(workspace) == {}


def test_a_whole_lock_file_stays(workspace):
    assert not graph.drop_torn_lock(workspace)
    assert graph.locked_hashes(workspace)["artifacts/3"].endswith("3.dir")


def test_a_mistake_is_logged_without_the_lines_of_prefects_code():
    """A defect keeps its traceback; what a user can mend is told in words alone."""
    from flows.pipeline import without_traceback

    def logged(error: Exception) -> logging.LogRecord:
        told = (type(error), error, None)
        record = logging.LogRecord("prefect.flow_runs", logging.ERROR, "", 0, "%r", (error,), told)
        assert without_traceback(record)
        return record

    assert logged(graph.StageFailed("stage a@b failed")).exc_info is None
    assert logged(KeyError("a defect")).exc_info is not None


def test_a_killed_stage_is_told_from_one_that_failed(tmp_path):
    stages = "stages:\n  killed:\n    cmd: kill -9 $$\n  failed:\n    cmd: exit 3\n"
    (tmp_path / "dvc.yaml").write_text(stages, encoding="utf-8")
    graph.ensure_repository(tmp_path)
    said = {}
    for stage in ("killed", "failed"):
        with pytest.raises(graph.StageFailed) as failed:
            graph.reproduce(tmp_path, stage, dict(os.environ), lambda _: None)
        said[stage] = str(failed.value)
    assert "out of memory?" in said["killed"] and "the same command" in said["killed"]
    assert "out of memory" not in said["failed"]
