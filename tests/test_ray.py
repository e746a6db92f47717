"""A Ray cluster of two nodes trains as one process does, and goes on when a worker is killed."""

import os
import signal
from functools import partial

import numpy as np
import psutil
import pytest

from components import cluster, tokens
from components.catalogue import edit
from components.lineage import folder_hash
from components.reporter import Silent
from components.training import launch
from components.training.group import Group
from flows import tracking
from tests.conftest import isolate, keep_base_alone, make_workspace, waiting
from tests.test_devices import alone, family_ended_by, job, losses, weights
from tests.test_devices import inputs as inputs  # a fixture
from tests.test_kills import runs_of
from tests.test_pipeline import kindling

pytest.importorskip("ray", reason="Ray is optional: pip install -c constraints.txt -e '.[ray]'")
pytest.importorskip("prefect_ray", reason="Prefect's Ray task runner is optional, as Ray is")
pytestmark = pytest.mark.slow
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
OFTEN = {"tokens": 40 * 128, "checkpoint_minutes": 1e-6}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a cluster of two nodes with a core each, on this machine."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    yield cluster.address
    cluster.shutdown()


def workers() -> list[psutil.Process]:
    """The processes of Ray Train that train."""
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if "RayTrainWorker" in " ".join(p.info["cmdline"] or [])]


class Recorder(Silent):
    """Keeps what is told. at: called once, when so many steps are done."""

    def __init__(self, steps=0, at=None) -> None:
        self.steps, self.at, self.notes = steps, at, []

    def progress(self, done, total, note="") -> None:
        self.notes.append(note)
        if self.at and self.steps <= done < total:
            at, self.at = self.at, None
            at()


@pytest.fixture(scope="module")
def uninterrupted(address, inputs, tmp_path_factory):
    """The folder of a run on both nodes that nothing befell."""
    place = tmp_path_factory.mktemp("uninterrupted")
    group = Group(1, 1, nodes=2, engine="ray", meeting=address)
    figures = launch.run(job(inputs, place, **OFTEN), group, Silent())
    assert figures["loss"] == losses(place)[-1]
    return place


def test_two_nodes_have_the_losses_of_one_process(uninterrupted, inputs, tmp_path):
    expected = alone(inputs, tmp_path, **OFTEN)
    assert len(expected) == 40
    assert losses(uninterrupted) == pytest.approx(expected, abs=1e-4)


def test_a_killed_worker_is_replaced_and_changes_no_bit(address, uninterrupted, inputs, tmp_path):
    def kill_one() -> None:
        found = workers()
        assert len(found) == 2
        os.kill(found[0].pid, signal.SIGKILL)

    recorder = Recorder(5, kill_one)
    group = Group(1, 1, nodes=2, engine="ray", meeting=address)
    launch.run(job(inputs, tmp_path, **OFTEN), group, recorder)
    assert recorder.at is None
    assert [note for note in recorder.notes if note.startswith("resumed at step")]
    expected, found = weights(uninterrupted), weights(tmp_path)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_a_mistake_is_told_and_not_tried_again(address, inputs, tmp_path):
    group = Group(1, 1, nodes=2, engine="ray", meeting=address)
    given = job(inputs, tmp_path, batch_tokens=48, tokens=480)
    with pytest.raises(ValueError, match="3 sequences cannot be shared evenly by 2 processes"):
        launch.run(given, group, Silent())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_cluster_of_our_own_ends_with_the_stage(inputs, tmp_path, number):
    """SIGTERM lets the processes write a checkpoint; after SIGKILL nothing of Ray is left."""
    given = job(inputs, tmp_path, tokens=10**7, checkpoint_minutes=0.01)
    commands = family_ended_by(number, given, "Group(2, 2, engine='ray')")
    assert len([command for command in commands if "RayTrainWorker" in " ".join(command)]) == 2


def test_shards_encoded_on_the_cluster_are_those_of_one_machine(
    address, inputs, tmp_path, monkeypatch
):
    monkeypatch.setattr(tokens, "SHARD_BYTES", 500)
    spread = partial(cluster.spread, address, 1)
    tokens.encode_corpus(inputs / "corpus", inputs / "tokenizer", tmp_path, Silent(), spread)
    assert folder_hash(tmp_path) == folder_hash(inputs / "tokens")


def test_a_flow_runs_its_stages_on_the_cluster(address, tmp_path, monkeypatch):
    """Each stage on a node with room; the base on both; nothing is left to do for DVC."""
    folder = make_workspace(tmp_path / "workspace")
    keep_base_alone(folder)
    isolate(monkeypatch, folder)
    monkeypatch.setenv("RAY_ADDRESS", address)
    compute = {"threads": 1, "jobs": 1, "engine": "ray", "nodes": 2}
    edit(folder, [f"compute.{key}={value}" for key, value in compute.items()])
    said = kindling(folder, "run", "quickstart")
    assert "base@quickstart" in said
    mlflow, runs = runs_of(folder, "base@quickstart")
    assert [(run.info.status, run.data.params["processes"]) for run in runs] == [("FINISHED", "2")]
    steps = [m.step for m in mlflow.get_metric_history(runs[0].info.run_id, "loss")]
    assert steps == sorted(set(steps)) and steps[-1] == 20480
    parent = mlflow.get_run(runs[0].data.tags[tracking.PARENT])
    assert parent.data.tags["kindling.started_by"] == "flow"
    assert waiting(folder, "quickstart") == set()
