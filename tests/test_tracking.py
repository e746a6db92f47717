"""What a stage tells MLflow."""

import os
import sqlite3
import subprocess
import sys
import time

import psutil
import pytest

from components.catalogue import load
from components.lineage import LINEAGE, write_json
from components.serving import fingerprints
from components.serving.fingerprints import Fingerprints
from flows import evidence, harness, making, trace, tracking
from flows.tracker import Tracker
from tests.conftest import ROOT


def test_figures_that_a_replaced_worker_tells_again_are_kept_once(tiny_workspace):
    """It goes on from a checkpoint, and tells the steps since then anew."""
    mlflow = tracking.client(tiny_workspace)
    run_id, last = tracking.open_stage_run(tiny_workspace, mlflow, "base@a", "a", "identity")
    tracker = Tracker(mlflow, run_id, print, last)
    for step in (1, 2, 3, 2, 3, 4):
        tracker.metrics({"loss": float(step)}, step)
    tracker.metrics({"cost": 1.0}, 4)
    tracker.close()
    steps = [metric.step for metric in mlflow.get_metric_history(run_id, "loss")]
    assert steps == [1, 2, 3, 4]
    assert [metric.value for metric in mlflow.get_metric_history(run_id, "cost")] == [1.0]


def test_a_resumed_stage_tells_a_second_training_from_its_first_step(tiny_workspace):
    """BERT's classifier was taken for steps of its pretraining, and its curves were lost."""
    mlflow = tracking.client(tiny_workspace)
    run_id, told = tracking.open_stage_run(tiny_workspace, mlflow, "bert@b-1", "a", "identity")
    tracker = Tracker(mlflow, run_id, print, told)
    tracker.metrics({"loss": 1.0}, 3000)
    tracker.metrics({"classifier.loss": 1.0}, 1)
    tracker.close()
    again, told = tracking.open_stage_run(tiny_workspace, mlflow, "bert@b-1", "a", "identity")
    assert again == run_id and told == {"loss": 3000, "classifier.loss": 1}
    tracker = Tracker(mlflow, run_id, print, told)
    for step in (1, 2):
        tracker.metrics({"loss": 2.0, "classifier.loss": 2.0, "classifier.cost": 2.0}, step)
    tracker.close()

    def steps(key: str) -> list[int]:
        return [metric.step for metric in mlflow.get_metric_history(run_id, key)]

    assert [steps(f"{name}loss") for name in ("", "classifier.")] == [[3000], [1, 2]]
    assert steps("classifier.cost") == [1, 2]


def test_a_store_whose_making_was_killed_is_made_anew(tmp_path):
    """MLflow could never open it again: its migrations do not go on in the middle."""
    command = "from pathlib import Path; from flows import tracking; tracking.client(Path('.'))"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    ask = [sys.executable, "-c", command]
    process = subprocess.Popen(ask, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    made = tmp_path / ".mlflow.db.new"
    while not (made.exists() and made.stat().st_size) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert made.exists() and not (tmp_path / "mlflow.db").exists()
    subprocess.run(ask, cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert list(database.execute("select name from experiments")) == [("Default",)]


def test_an_answer_that_nobody_gave_is_not_explained(tmp_path):
    """A made-up end of an id was believed, where feedback refuses it."""
    known = Fingerprints(tmp_path / fingerprints.FOLDER)
    digest = known.of({"base": {"name": "base"}})
    given = known.answer_id("cls", digest)
    forged = given[:-1] + ("0" if given[-1] != "0" else "1")
    with pytest.raises(trace.TraceError, match=f"'{forged}'.*kindling trace fp_{digest}"):
        trace.explain(tmp_path, forged)
    assert known.given(given) == known.given(f"fp_{digest}") == known.given(digest) == digest
    assert known.given(forged) is None and known.given("nothing") is None


class Locked:
    """A store that refuses the first calls, as MLflow's does while its database is locked."""

    def __init__(self, refused: float) -> None:
        self.refused, self.calls = refused, 0
        self.told: list[tuple[str, int]] = []
        self.ended: list[str] = []

    def log_batch(self, _run_id: str, metrics=()) -> None:
        self.calls += 1
        if self.calls <= self.refused:
            raise RuntimeError("TEMPORARILY_UNAVAILABLE")
        self.told += [(metric.key, metric.step) for metric in metrics]

    def set_terminated(self, _run_id: str, status: str) -> None:
        self.ended.append(status)


def test_figures_that_the_store_refuses_are_told_later_and_the_writer_lives_on(monkeypatch):
    """One failed batch ended the thread, and was lost."""
    monkeypatch.setattr("flows.tracker.FLUSH_SECONDS", 0.01)
    store = Locked(refused=2)
    tracker = Tracker(store, "run", print)
    tracker.metrics({"loss": 3.0}, 1)
    deadline = time.monotonic() + 60
    while store.calls < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    tracker.metrics({"loss": 2.0}, 2)
    while len(store.told) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store.told == [("loss", 1), ("loss", 2)], "nothing was told while the stage ran"
    tracker.close()


@pytest.mark.parametrize(
    ("error", "refused", "ended"),
    [(None, 0, "FINISHED"), (ValueError, 0, "FAILED"), (ValueError, 99, "FAILED")],
)
def test_a_run_is_ended_and_the_stages_own_error_told(error, refused, ended):
    store = Locked(refused)
    tracker = Tracker(store, "run", print)

    def work() -> None:
        with making._ended(store, tracker):
            tracker.metrics({"loss": 1.0}, 1)
            if error:
                raise error("the corpus is too short")

    if error:
        with pytest.raises(error, match="too short"):
            work()
    else:
        work()
    assert store.ended == [ended] and bool(store.told) == (refused == 0)


def test_a_run_that_could_not_be_told_all_is_no_finished_one():
    store = Locked(refused=99)
    tracker = Tracker(store, "run", print)
    with pytest.raises(RuntimeError, match="UNAVAILABLE"), making._ended(store, tracker):
        tracker.metrics({"loss": 1.0}, 1)
    assert store.ended == ["FAILED"]


def test_a_note_that_its_owner_drops_meanwhile_is_no_lost_run(tmp_path, monkeypatch):
    """A stage of a bare `dvc repro` that ended then let a new run fail at its start."""
    note = tracking.run_note(tmp_path, "base@a")
    tracking._write_note(note, {"run_id": "r"})
    assert tracking.read_note(note)["pid"] == os.getpid()
    monkeypatch.setattr(time, "sleep", lambda _seconds: note.unlink())
    monkeypatch.setattr(tracking, "client", lambda _workspace: None)
    tracking.end_all_lost(tmp_path, patience=60)
    assert tracking.read_note(note) is None


def test_whom_nobody_may_look_at_is_no_dvc(tmp_path, monkeypatch):
    """A stage whose ancestor is another user's failed, also where DVC had not started it."""

    class Ancestor:
        def __init__(self, *command: str) -> None:
            self.command, self.pid = command, 7

        def cmdline(self) -> list[str]:
            if not self.command:
                raise psutil.AccessDenied(self.pid)
            return list(self.command)

        def create_time(self) -> float:
            return 1.0

    found = [Ancestor(), Ancestor("python", "-m", "dvc", "repro")]
    monkeypatch.setattr(psutil.Process, "parents", lambda _: found)
    monkeypatch.setattr(tracking, "start_parent", lambda *_: "run")
    monkeypatch.setattr(tracking, "end_parent", lambda *_: None)
    monkeypatch.setattr(tracking.settings, "dvc_started_us", lambda: True)
    assert tracking.parent_of_dvc(tmp_path, None, "a") == "run"
    monkeypatch.setattr(tracking.settings, "dvc_started_us", lambda: False)
    assert tracking.parent_of_dvc(tmp_path, None, "a") is None


def test_a_ladder_of_many_rungs_tells_the_settings_of_all(tiny_workspace):
    """The hundredth parameter was the last: nothing was said of the Transformer, BERT and GPT."""
    catalogue = load(ROOT / "recipes" / "ladder_world", check_files=False)
    mlflow = tracking.client(tiny_workspace)
    run_id = tracking.start_parent(tiny_workspace, "ladder", {})
    evidence.log_parent(mlflow, run_id, tiny_workspace, catalogue, "ladder")
    told = mlflow.get_run(run_id).data.params
    rungs = catalogue.ladders["ladder"].rungs
    assert {f"{name}.model.family" for name in rungs} <= set(told)
    assert told["gpt.training.learning_rate"] == "0.006"


def test_a_run_says_who_began_it_and_by_which_command(tiny_workspace):
    """Source and user of every run were empty on MLflow's page."""
    mlflow = tracking.client(tiny_workspace)
    parent = tracking.start_parent(tiny_workspace, "a", {"kindling.pipeline": "a"})
    run_id, _ = tracking.open_stage_run(tiny_workspace, mlflow, "language@big_lstm-2", "a", "x")
    told = mlflow.get_run(run_id).data.tags
    assert told["mlflow.source.name"] == "dvc repro language@big_lstm-2" and told["mlflow.user"]
    assert (told["kindling.rung"], told["kindling.seed"]) == ("big_lstm", "2")
    whole = mlflow.get_run(parent).data.tags
    assert whole["mlflow.source.name"] == "kindling run a" and "kindling.rung" not in whole


def test_names_that_a_user_chose_hinder_no_stage(tiny_workspace):
    """MLflow refused labels of '+' and '-', and data beside the workspace: the stage's run failed
    when its work was done, at each try.
    """
    mlflow = tracking.client(tiny_workspace)
    run_id, _ = tracking.open_stage_run(tiny_workspace, mlflow, "dataset@a", "a", "identity")
    block = {"labels": {"+": "good", "C++": "bad"}, "splits": {"train": "a.csv"}}
    data = {"../../data/reviews [1]": "1", "data/b.csv": "2", "/mnt/c": "3"}
    origin = {"inputs": {}, "block": block, "data": data}
    evidence.log(mlflow, run_id, tiny_workspace, "dataset@a", tiny_workspace, origin, "c", 1.0)
    told = mlflow.get_run(run_id).data
    assert told.params == {"labels": str(block["labels"]), "splits.train": "a.csv"}
    tags = {name: value for name, value in told.tags.items() if name.startswith("dvc.")}
    assert tags == {"dvc.__/__/data/reviews _1_": "1", "dvc.data/b.csv": "2", "dvc._/mnt/c": "3"}
    tracker = Tracker(mlflow, run_id, print)
    tracker.metrics({"wordsim_MEN (natural)": 0.5})
    tracker.close()
    assert mlflow.get_run(run_id).data.metrics["wordsim_MEN _natural_"] == 0.5


def test_a_run_that_judges_an_artifact_is_none_that_made_it(tiny_workspace):
    """`kindling trace` named every evaluation by the harness among the runs of an adapter."""
    folder = tiny_workspace / "artifacts/quickstart/adapters/lora"
    folder.mkdir(parents=True)
    write_json(folder / LINEAGE, {"content": "c0ffee"})
    with harness._parent(tiny_workspace, "quickstart") as log:
        log("lora", {"taste": {"acc": 0.5}}, folder, folder / LINEAGE)
    assert trace._Sources.of(tiny_workspace, wait=True).runs("c0ffee") == []
