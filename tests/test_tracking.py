"""What a stage tells MLflow."""

from types import SimpleNamespace

from components.catalogue import load
from flows import evidence, tracking
from flows.evidence import MOST_PARAMETERS
from tests.conftest import ROOT


def test_figures_that_a_replaced_worker_tells_again_are_kept_once(tiny_workspace):
    """It goes on from a checkpoint, and tells the steps since then anew."""
    mlflow = tracking.client(tiny_workspace)
    run_id, last = tracking.open_stage_run(tiny_workspace, mlflow, "base@a", "a", "identity")
    tracker = tracking.Tracker(mlflow, run_id, print, last)
    for step in (1, 2, 3, 2, 3, 4):
        tracker.metrics({"loss": float(step)}, step)
    tracker.metrics({"cost": 1.0}, 4)
    tracker.close()
    steps = [metric.step for metric in mlflow.get_metric_history(run_id, "loss")]
    assert steps == [1, 2, 3, 4]
    assert [metric.value for metric in mlflow.get_metric_history(run_id, "cost")] == [1.0]


class Store:
    """What a run was told, in calls no larger than MLflow takes."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def get_run(self, _run_id: str) -> SimpleNamespace:
        return SimpleNamespace(data=SimpleNamespace(params={}))

    def log_batch(self, _run_id: str, metrics=(), params=(), tags=()) -> None:
        assert len(params) <= MOST_PARAMETERS, "MLflow refuses the whole call"
        self.told |= {param.key: param.value for param in params}


def test_a_ladder_of_many_rungs_tells_the_settings_of_all(tmp_path):
    """The hundredth parameter was the last: nothing was said of the Transformer, BERT and GPT."""
    catalogue = load(ROOT / "recipes" / "ladder_world", check_files=False)
    store = Store()
    evidence.log_parent(store, "run", tmp_path, catalogue, "ladder")
    rungs = catalogue.ladders["ladder"].rungs
    assert {f"{name}.model.family" for name in rungs} <= set(store.told)
    assert store.told["gpt.training.learning_rate"] == "0.006"


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
