"""Several processes train as one does, and one goes on where several stopped."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest

from components.catalogue import edit
from components.lineage import read_json, write_json
from components.models.llama import Model
from components.reporter import Silent
from components.tokenizer import Tokenizer, train_tokenizer
from components.tokens import encode_corpus
from components.training import launch
from components.training.group import Group
from components.training.pretrain import Pretrain, pretrain
from tests.conftest import isolate, keep_base_alone, make_workspace, waiting
from tests.test_kills import runs_of, wait_for
from tests.test_pipeline import kindling
from tests.tiny_models import TEXTS

pytestmark = pytest.mark.slow
STEPS = 12
MODEL = Model(layers=2, width=32, heads=2, context=16)


def block(**changes) -> Pretrain:
    given = {"tokens": STEPS * 128, "batch_tokens": 128, "learning_rate": 0.01, "evaluations": 3}
    return Pretrain(**{**given, "precision": "float32", "seed": 1, **changes})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    from components.lineage import write_jsonl

    folder = tmp_path_factory.mktemp("devices")
    for name in ("corpus", "tokenizer", "tokens"):
        (folder / name).mkdir()
    for split in ("train", "validation", "test"):
        rows = ({"text": f"{text} number {n}"} for n in range(8) for text in TEXTS)
        write_jsonl(folder / "corpus" / f"{split}.jsonl", rows)
    train_tokenizer(Tokenizer(vocab_size=300), folder / "corpus", folder / "tokenizer", Silent())
    encode_corpus(folder / "corpus", folder / "tokenizer", folder / "tokens", Silent())
    return folder


def job(inputs: Path, place: Path, **changes) -> dict:
    (place / "out").mkdir(parents=True, exist_ok=True)
    folders = {"tokens": inputs / "tokens", "tokenizer": inputs / "tokenizer"}
    folders |= {"out": place / "out", "checkpoints": place / "checkpoints"}
    return {
        "model": MODEL.model_dump(mode="json"),
        "pretrain": block(**changes).model_dump(mode="json"),
        "identity": "run",
        "price": None,
        **{name: str(path) for name, path in folders.items()},
    }


def alone(inputs: Path, place: Path, report=None, **changes) -> list[float]:
    given = job(inputs, place, **changes)
    folders = {n: Path(given[n]) for n in ("tokens", "tokenizer", "out", "checkpoints")}
    pretrain(MODEL, block(**changes), identity="run", report=report or Silent(), **folders)
    return losses(place)


def losses(place: Path) -> list[float]:
    return [entry["loss"] for entry in read_json(place / "out" / "training.json")["history"]]


def weights(place: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(place / "out" / "model.safetensors")


@pytest.fixture(scope="module")
def one(inputs, tmp_path_factory) -> Path:
    """The folder of a training by one process."""
    place = tmp_path_factory.mktemp("one")
    alone(inputs, place)
    return place


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def two(request, inputs, tmp_path_factory) -> tuple[Path, dict[str, float]]:
    """The folder of the same by two, with a checkpoint of every step, and the figures."""
    place = tmp_path_factory.mktemp("two")
    given = job(inputs, place, checkpoint_minutes=1e-6)
    return place, launch.run(given, Group(2, 2, request.param), Silent())


def test_two_processes_have_the_losses_of_one(one, two):
    place, figures = two
    found = losses(place)
    assert len(found) == STEPS
    assert found == pytest.approx(losses(one), abs=1e-4)
    assert figures["loss"] == found[-1]
    expected, made = weights(one), weights(place)
    assert expected.keys() == made.keys()
    assert all(np.allclose(expected[name], made[name], atol=1e-3) for name in expected)


def test_one_process_goes_on_where_two_stopped(inputs, one, two, tmp_path):
    shutil.copytree(two[0] / "checkpoints", tmp_path / "checkpoints")
    newest = max((tmp_path / "checkpoints").glob("step-*.pt"))
    newest.unlink()
    notes = []

    class Noted(Silent):
        def progress(self, done, total, note=""):
            notes.append(note)

    found = alone(inputs, tmp_path, report=Noted())
    assert f"resumed at step {STEPS - 1}" in notes
    assert found == pytest.approx(losses(one), abs=1e-4)


def test_processes_on_one_machine_know_of_each_other():
    """They share its memory; each took all that was free."""
    code = (
        "from components.training import devices\nwith devices.together(): print(devices.beside())"
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    where |= {"CUDA_VISIBLE_DEVICES": ""}  # accelerators have memory of their own
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **where, "RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in started] == ["2", "2"]


def test_a_failure_shows_what_the_processes_said(inputs, tmp_path):
    given = job(inputs, tmp_path, batch_tokens=48, tokens=480)
    with pytest.raises(ValueError, match="3 sequences cannot be shared evenly by 2 processes"):
        launch.run(given, Group(2, 2), Silent())


def family_ended_by(number: int, given: dict, group: str) -> list[list[str]]:
    """Start a training of `given` by `group`, send `number` to what started it, and see all end.

    The command lines of the processes that there were below it.
    """
    code = (
        "from components.training.launch import Group, run; from components.reporter import Silent"
        f"\nrun({given!r}, {group}, Silent())"
    )
    started = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    checkpoints = Path(given["checkpoints"])
    wait_for(lambda: list(checkpoints.glob("step-*.pt")), seconds=300)
    family = psutil.Process(started.pid).children(recursive=True)
    commands = [process.cmdline() for process in family]
    os.kill(started.pid, number)
    _, said = started.communicate(timeout=60)
    _, left = psutil.wait_procs(family, timeout=20)
    assert not left
    if number == signal.SIGTERM:
        assert "stopped by SIGTERM at step" in said
    return commands


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_processes_end_with_the_one_that_started_them(inputs, tmp_path, number):
    """SIGTERM lets them write a checkpoint; after SIGKILL they are gone."""
    given = job(inputs, tmp_path, tokens=10**7, checkpoint_minutes=0.01)
    assert len(family_ended_by(number, given, "Group(2, 2)")) >= 3


@pytest.fixture(scope="module")
def flowing(tmp_path_factory, prefect_server):
    """A workspace for flows one after another, of which only the first makes what is not behind
    the base.
    """
    folder = make_workspace(tmp_path_factory.mktemp("flows") / "workspace")
    keep_base_alone(folder)
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder, prefect_server)
        yield folder


@pytest.mark.parametrize("how", ["processes", "nodes"])
def test_a_flow_whose_base_two_train(flowing, how):
    """Two processes of this machine, or one on each of two: here, in another `kindling`."""
    meeting = f"127.0.0.1:{free_port()}" if how == "nodes" else "null"
    compute = {"processes": 1, "nodes": 1, how: 2, "rendezvous": meeting}
    settings = [f"compute.{key}={value}" for key, value in compute.items()]
    seed = len(runs_of(flowing, "base@quickstart")[1]) + 1  # another base each time
    edit(flowing, [*settings, f"pipelines.quickstart.pretrain.seed={seed}"])
    command = [sys.executable, "-m", "flows.cli", "join", "base@quickstart"]
    other = subprocess.Popen(command, cwd=flowing) if how == "nodes" else None
    kindling(flowing, "run", "quickstart")
    assert other is None or other.wait(timeout=60) == 0
    mlflow, runs = runs_of(flowing, "base@quickstart")
    assert len(runs) == seed
    newest = max(runs, key=lambda run: run.info.start_time)
    assert (newest.info.status, newest.data.params["processes"]) == ("FINISHED", "2")
    steps = [m.step for m in mlflow.get_metric_history(newest.info.run_id, "loss")]
    assert steps == sorted(set(steps)) and steps[-1] == 20480
    assert waiting(flowing, "quickstart") == set()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_two_machines_meet_and_train_as_one(inputs, one, tmp_path):
    """Two `torchrun`s on this machine form one group of two nodes with a process each."""
    group = Group(1, 1, nodes=2, meeting=f"127.0.0.1:{free_port()}")
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(launch.join, tmp_path / "checkpoints", 1, Silent())
        figures = launch.run(job(inputs, tmp_path), group, Silent())
        other.result(timeout=60)
    assert losses(tmp_path) == pytest.approx(losses(one), abs=1e-4)
    assert figures["loss"] == losses(tmp_path)[-1]


def test_a_stop_on_one_machine_stops_the_other_behind_a_checkpoint(inputs, tmp_path):
    given = job(inputs, tmp_path, tokens=10**7, checkpoint_minutes=0.01)
    checkpoints = tmp_path / "checkpoints"
    group = f"Group(1, 1, nodes=2, meeting='127.0.0.1:{free_port()}')"
    begin = "from pathlib import Path; from components.reporter import Silent\n"
    begin += "from components.training.launch import Group, join, run\n"
    codes = (f"run({given!r}, {group}, Silent())", f"join(Path({str(checkpoints)!r}), 1, Silent())")
    started = [
        subprocess.Popen([sys.executable, "-c", begin + code], stderr=subprocess.PIPE, text=True)
        for code in codes
    ]
    wait_for(lambda: list(checkpoints.glob("step-*.pt")))
    os.kill(started[1].pid, signal.SIGTERM)
    for process in started:
        assert "stopped by SIGTERM at step" in process.communicate(timeout=60)[1]


def test_a_machine_that_is_not_in_the_group_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        group = Group(1, 1, nodes=2, meeting=f"127.0.0.1:{server.getsockname()[1]}")
        write_json(tmp_path / "job.json", {"group": asdict(group), "job": {}})
        with pytest.raises(ValueError, match="--node 2: the machines that join are 1 to 1"):
            launch.join(tmp_path, 2, Silent())
