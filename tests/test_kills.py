"""Killed at any place, then the same command: the result is that of an uninterrupted run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from dvc.lock import make_lock

from components.lineage import content_of, read_json
from components.locks import Held
from flows import finished as kept
from flows import graph, making, tracking
from tests.conftest import isolate, keep_base_alone, make_workspace

pytestmark = pytest.mark.slow
DVC = [sys.executable, "-m", "dvc", "repro"]
BASE = "artifacts/quickstart/base"


def run(workspace: Path, *command: str) -> subprocess.CompletedProcess:
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A workspace whose next stage is a base that trains for some seconds, checkpointing often, and
    what that base is without a kill.
    """
    folder = make_workspace(tmp_path_factory.mktemp("kills") / "prepared")
    catalogue = folder / "pipelines.yaml"
    text = catalogue.read_text(encoding="utf-8")
    longer = "tokens: 409600, checkpoint_minutes: 0.005, batch_tokens: 512"
    catalogue.write_text(text.replace("tokens: 20480, batch_tokens: 512", longer))
    keep_base_alone(folder)
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        run(folder, *DVC, "-q", "tokens@quickstart")
        reference = folder.with_name("reference")
        shutil.copytree(folder, reference, symlinks=True)
        isolate(patch, reference)
        run(reference, *DVC, "-q", "--single-item", "base@quickstart")
    return folder, content_of(reference / BASE)


@pytest.fixture
def workspace(prepared, tmp_path, monkeypatch):
    folder = tmp_path / "workspace"
    shutil.copytree(prepared[0], folder, symlinks=True)
    isolate(monkeypatch, folder)
    return folder


def wait_for(condition, seconds: float = 90.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def stages_at_work(workspace: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        command = process.info["cmdline"] or []
        at_work = command[1:3] in (["-m", "flows.stage"], ["-m", "flows.forkserver"])
        if at_work and process.info["cwd"] == str(workspace):
            found.append(process)
    return found


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def kill(*processes: psutil.Process) -> None:
    for process in processes:
        if process.is_running():
            os.kill(process.pid, signal.SIGKILL)


def runs_of(workspace: Path, called: str):
    mlflow = tracking.client(workspace)
    ids = [e.experiment_id for e in mlflow.search_experiments()]
    return mlflow, mlflow.search_runs(ids, f"tags.`kindling.stage` = '{called}'")


def states(workspace: Path) -> set[str]:
    mlflow = tracking.client(workspace)
    every = mlflow.search_runs([e.experiment_id for e in mlflow.search_experiments()])
    return {run.info.status for run in every}


@pytest.mark.parametrize("victim", ["dvc", "stage", "all"])
def test_killed_then_the_same_command(workspace, prepared, victim):
    command = [*DVC, "--single-item", "base@quickstart"]
    process = subprocess.Popen(
        command, cwd=workspace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoints = workspace / ".kindling" / "checkpoints" / "base@quickstart"
    wait_for(lambda: list(checkpoints.glob("step-*.pt")) and stages_at_work(workspace))
    dvc = psutil.Process(process.pid)
    victims = {"dvc": [dvc], "stage": stages_at_work(workspace), "all": family(dvc)}
    kill(*victims[victim])
    process.wait(timeout=30)
    wait_for(lambda: not stages_at_work(workspace), seconds=15)
    assert not (workspace / BASE).exists(), "a half-made result stands where a whole one belongs"

    done = run(workspace, *command)
    assert "resumed at step" in done.stdout
    assert content_of(workspace / BASE) == prepared[1]
    mlflow, runs = runs_of(workspace, "base@quickstart")
    assert [r.info.status for r in runs] == ["FINISHED"], "the killed run was not reopened"
    steps = [m.step for m in mlflow.get_metric_history(runs[0].info.run_id, "loss")]
    assert len(steps) == len(set(steps)), "steps are told twice"
    assert run(workspace, *command).stdout.count("didn't change")


@pytest.mark.parametrize("how", ["killed", "interrupted", "terminated", "all killed"])
def test_a_flow_killed_or_interrupted_then_the_same_command(
    workspace, prepared, prefect_server, monkeypatch, how
):
    """The flow alone, or with all that it started: that ends with it, and the next run goes on."""
    command = [sys.executable, "-m", "flows.cli", "run", "quickstart"]
    log = workspace / "log.txt"
    with log.open("w") as out:  # Ctrl-C counts, also where the tests run in the background
        flow = subprocess.Popen(
            command,
            cwd=workspace,
            stdout=out,
            stderr=out,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    checkpoints = workspace / ".kindling" / "checkpoints" / "base@quickstart"
    wait_for(lambda: list(checkpoints.glob("step-*.pt")) and stages_at_work(workspace))
    begun = family(psutil.Process(flow.pid))
    sent = {"interrupted": signal.SIGINT, "terminated": signal.SIGTERM}.get(how, signal.SIGKILL)
    kill(*begun) if how == "all killed" else os.kill(flow.pid, sent)
    assert flow.wait(timeout=60) != 0
    wait_for(lambda: not stages_at_work(workspace), seconds=15)
    assert not (workspace / BASE).exists()
    # not even Prefect's own server, or what watches it, is left behind
    wait_for(lambda: not [process for process in begun if process.is_running()], seconds=15)
    if how in ("interrupted", "terminated"):
        assert "RUNNING" not in states(workspace), "an interrupted flow ends what it began"

    if how != "all killed":  # there the second one, too, has a server of its own, on what was left
        monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    done = run(workspace, *command)
    assert "resumed at step" in done.stdout + done.stderr
    assert content_of(workspace / BASE) == prepared[1]
    _, runs = runs_of(workspace, "base@quickstart")
    assert [r.info.status for r in runs] == ["FINISHED"]
    assert "RUNNING" not in states(workspace), "a lost run runs for ever"


def finished(workspace: Path) -> list[Path]:
    return list((workspace / ".kindling" / "finished").glob("*.json"))


def stopped_at_a_stages_end(
    workspace: Path, command: list[str]
) -> tuple[subprocess.Popen, psutil.Process]:
    """DVC as it was before the stage ended, which it does not know yet."""
    process = subprocess.Popen(command, cwd=workspace, stdout=subprocess.DEVNULL)
    dvc = psutil.Process(process.pid)
    wait_for(lambda: (workspace / ".kindling" / "work" / "base@quickstart").exists())
    dvc.suspend()
    wait_for(lambda: finished(workspace) and not stages_at_work(workspace), seconds=300)
    return process, dvc


def test_a_busy_dvc_costs_no_finished_training(workspace, prepared):
    """DVC gave up after three seconds at the stage's end, and the next try deleted its result."""
    command = [*DVC[:-1], "--wait-for-lock", "repro", "--single-item", "base@quickstart"]
    assert command[: len(graph.DVC)] == graph.DVC
    process, dvc = stopped_at_a_stages_end(workspace, command)
    with make_lock(str(workspace / ".dvc" / "tmp" / "lock"), wait=True):
        dvc.resume()
        time.sleep(10)
        assert process.poll() is None
    assert process.wait(timeout=60) == 0
    assert content_of(workspace / BASE) == prepared[1]
    assert graph.stale(workspace).get("base@quickstart") is None


def test_killed_before_it_notes_a_result_dvc_has_it_again_in_seconds(workspace, prepared):
    command = [*DVC, "--single-item", "base@quickstart"]
    process, dvc = stopped_at_a_stages_end(workspace, command)
    kill(dvc)
    process.wait()
    assert kept.noted(workspace) == []
    done = run(workspace, *command)
    steps = read_json(workspace / BASE / "training.json")["history"][-1]["step"]
    assert f"resumed at step {steps}" in done.stdout
    assert content_of(workspace / BASE) == prepared[1]
    _, runs = runs_of(workspace, "base@quickstart")
    assert [r.info.status for r in runs] == ["FINISHED"]
    checkpoints = workspace / ".kindling" / "checkpoints" / "base@quickstart"
    assert kept.noted(workspace) == ["base@quickstart"] and list(checkpoints.glob("step-*.pt"))
    kept.drop_noted(workspace)
    assert not checkpoints.exists() and not finished(workspace)


def test_two_at_once_do_not_mix(workspace, prepared, monkeypatch):
    """A second process of the same stage waits, or says who holds it."""
    monkeypatch.setattr(making, "LOCK_WAIT_SECONDS", 0.5)  # of this process
    monkeypatch.setattr(making, "_settle", lambda _: None)  # what concerns its numbers
    command = [sys.executable, "-m", "flows.stage", "base@quickstart"]
    first = subprocess.Popen(command, cwd=workspace, stdout=subprocess.DEVNULL)
    wait_for(lambda: (workspace / ".kindling" / "work" / "base@quickstart").exists())
    os.kill(first.pid, signal.SIGSTOP)  # it holds the stage for as long as it takes
    try:
        with pytest.raises(Held, match=rf"^base@quickstart is held by process {first.pid};"):
            making.run(workspace, "base@quickstart")
    finally:
        os.kill(first.pid, signal.SIGCONT)
    second = subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=200)
    assert first.wait(timeout=200) == 0
    assert second.returncode == 0 or f"process {first.pid}" in second.stderr
    assert content_of(workspace / BASE) == prepared[1]


def test_a_torn_checkpoint_is_known_and_the_one_before_taken(workspace, prepared):
    command = [sys.executable, "-m", "flows.stage", "base@quickstart"]
    process = subprocess.Popen(command, cwd=workspace, stdout=subprocess.DEVNULL)
    checkpoints = workspace / ".kindling" / "checkpoints" / "base@quickstart"
    wait_for(lambda: len(list(checkpoints.glob("step-*.pt"))) == 2)
    kill(psutil.Process(process.pid))
    process.wait()
    newest = max(checkpoints.glob("step-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    done = run(workspace, *command)
    assert f"checkpoint {newest.name} is torn or altered" in done.stdout
    assert content_of(workspace / BASE) == prepared[1]
