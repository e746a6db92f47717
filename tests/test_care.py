"""What `kindling doctor` and `kindling status` say of a workspace."""

import hashlib
import os
import socket
import subprocess
from contextlib import ExitStack
from importlib import metadata
from types import SimpleNamespace

import pytest

from components.locks import Held, hold
from flows import care, cleaning, finished, graph, registry, serving, tracking
from flows.versions import pinned
from infra.config import DEFAULT, load

TORN = "schema: '2.0'\nstages:\n  dataset@tales:\n    cmd: python -m flows.stage\n    de"


def test_each_wrong_pin_is_a_line_with_its_remedy(tmp_path, monkeypatch):
    versions = {"numpy": "2.4.6+cpu", "torch": "2.9.0+cpu", "yarl": "1.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr("flows.versions.pinned", lambda: {"torch": "2.12.0", "peft": "0.21.2"})
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(
        "# pins\nnumpy==2.4.6\ntorch==2.12.0\nyarl==1.25.1\nzipp==4.1.2\n", encoding="utf-8"
    )
    told = list(care._pins(constraints))
    assert told == [
        (False, "pins", "torch is 2.9.0, pinned is 2.12.0: run 'pip install torch==2.12.0'"),
        (False, "pins", "yarl is 1.0, pinned is 1.25.1: run 'pip install yarl==1.25.1'"),
        (False, "pins", "peft is not installed, pinned is 0.21.2: run 'pip install peft==0.21.2'"),
    ]


def test_the_environment_of_these_tests_is_as_pinned(tmp_path):
    ((fine, _, said),) = care._pins()
    assert fine and said.endswith("packages as in constraints.txt")
    assert int(said.split()[0]) > 100
    ((fine, _, said),) = care._pins(tmp_path / "constraints.txt")  # as in an installed package
    assert fine and said == f"{len(pinned())} packages as in components/versions"


def test_ports_are_those_of_the_settings_and_a_taken_one_names_its_holder(tmp_path):
    """They once stood in the code a second time."""
    settings = load()
    told = {what: said for _, what, said in care._ports(DEFAULT)}
    ports = (settings.prefect.port, settings.mlflow.port, care.SERVING)
    assert list(told) == [f"port {port}" for port in ports]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        text = DEFAULT.read_text(encoding="utf-8").replace("port: 5000", f"port: {port}")
        changed = tmp_path / "settings.yaml"
        changed.write_text(text, encoding="utf-8")
        told = {what: said for _, what, said in care._ports(changed)}
    said = told[f"port {port}"]
    assert said.startswith(f"in use by process {os.getpid()} (") and said.endswith(
        "(MLflow server)"
    )
    assert [what for _, what, _ in care._ports(tmp_path / "none.yaml")] == [f"port {care.SERVING}"]


@pytest.mark.parametrize("text", ["prefect: {port", "mlflow: {port: 5000}", "- 4200", ""])
def test_settings_without_ports_are_a_finding(tmp_path, text):
    file = tmp_path / "settings.yaml"
    file.write_text(text, encoding="utf-8")
    fine, what, said = next(care._ports(file))
    assert (fine, what) == (False, "ports")
    assert str(file) in said and "infra.stack status" in said


def test_a_torn_dvc_lock_is_a_finding(tmp_path):
    assert care._lock(tmp_path) == (True, "dvc.lock", "0 results noted")
    (tmp_path / "dvc.lock").write_text(TORN, encoding="utf-8")
    fine, what, said = care._lock(tmp_path)
    assert (fine, what) == (False, "dvc.lock")
    assert "torn; delete it and run the pipeline" in said


def test_serving_at_a_taken_port_names_who_holds_it():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(serving.ServeError, match=rf":{port}: .* by process {os.getpid()} "):
            serving._require_port("127.0.0.1", port)


def test_status_names_the_newest_registered_version_of_each_model(tiny_workspace, monkeypatch):
    numbers = {"quickstart.base": [1, 2], "quickstart.lora": [9, 10]}
    store = SimpleNamespace(
        versions=lambda name: [SimpleNamespace(version=str(n)) for n in numbers.get(name, [])],
        tags=lambda name: {},
    )
    monkeypatch.setattr(registry, "registry", lambda workspace: store)
    monkeypatch.setattr(graph, "stale", lambda workspace, stages: {"base@quickstart": []})
    told = care.status(tiny_workspace)["pipelines"]["quickstart"]
    assert told["registered"] == {"base": 2, "lora": 10}
    assert told["release"] is None
    assert told["stages"]["base@quickstart"] == "stale"


def test_status_can_be_asked_while_a_stage_runs(tiny_workspace, monkeypatch):
    """DVC refuses to look at what a stage at work writes and at all that is made of it."""
    store = SimpleNamespace(versions=lambda name: [], tags=lambda name: {})
    monkeypatch.setattr(registry, "registry", lambda workspace: store)
    asked = []

    def stale(workspace, stages):
        asked.extend(stages)
        return {"tokenizer@quickstart": []}

    monkeypatch.setattr(graph, "stale", stale)
    with hold(tiny_workspace / ".kindling" / "locks" / "base@quickstart"):
        told = care.status(tiny_workspace)
    states = told["pipelines"]["quickstart"]["stages"]
    assert "base@quickstart" in told["running"] and states["base@quickstart"] == "running"
    assert states["tokenizer@quickstart"] == "stale" and states["tokens@quickstart"] == "up to date"
    waiting = {stage for stage, state in states.items() if state == "waiting"}
    assert {"adapter@lora", "evaluation@lora", "report@quickstart"} <= waiting
    assert set(asked) == set(states) - waiting - {"base@quickstart"}


def test_what_begins_while_clean_asks_keeps_its_folders(tmp_path, monkeypatch):
    """A stage of a bare `dvc repro` lost its checkpoints, and a trial was never asked for. Later a
    stage lost its second folder, and a release what it judged anew under the registry's lock.
    """
    monkeypatch.setattr(cleaning, "forget", lambda *_: None)
    monkeypatch.setattr(cleaning, "collect", lambda _: "")
    state = tmp_path / ".kindling"
    busy = ("checkpoints/base@b", "work/base@b", "work/random@b.adapter", "rejudged/b", "trials/b")
    names = ("checkpoints/base@a", "trials/a", *busy)
    places = {name: state / name for name in names}
    for folder in places.values():
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "trial.json").touch()
        if folder.parent.name == "trials":
            (folder / "lock").touch()

    def listed() -> list:
        return [path for found in cleaning.leftovers(tmp_path).values() for path in found]

    held = [state / "locks" / name for name in ("base@b", "random@b")]
    held += [registry.registry_lock(tmp_path), places["trials/b"] / "lock"]
    with ExitStack() as stack:
        for lock in held:
            stack.enter_context(hold(lock))
        assert listed() == [places["checkpoints/base@a"], places["trials/a"]]
        cleaning.clean(tmp_path, list(places.values()), [])
    assert listed() == [places[name] for name in busy]
    left = [path.name for path in places["trials/a"].iterdir()]
    assert left == ["lock"], "who waits for it must meet the next one there"
    cleaning.clean(tmp_path, listed(), [])
    assert listed() == []


def test_clean_spares_checkpoints_from_which_a_stage_goes_on(tmp_path, monkeypatch):
    """Told to run it on a full disk, and then the same command, one began anew."""
    monkeypatch.setattr(cleaning, "forget", lambda *_: None)
    monkeypatch.setattr(cleaning, "collect", lambda _: "")
    monkeypatch.setattr(tracking, "end_all_lost", lambda _: None)
    place = finished.checkpoints_of(tmp_path, "base@a")
    place.mkdir(parents=True)
    (place / "step.pt").touch()
    note = tracking.run_note(tmp_path, "base@a")
    tracking._write_note(note, {"run_id": "r"})
    assert not any(cleaning.leftovers(tmp_path).values())
    assert cleaning.interrupted(tmp_path) == [place]
    monkeypatch.setattr(finished, "noted", lambda _: ["base@a"])
    assert cleaning.interrupted(tmp_path) == []
    assert place in [path for found in cleaning.leftovers(tmp_path).values() for path in found]
    cleaning.clean(tmp_path, [place], [])
    assert not place.exists() and not note.exists()


def test_clean_keeps_each_version_of_the_data_that_a_commit_or_a_run_names(tiny_workspace):
    """With `on_change: version` the one before was in the cache alone."""
    data = tiny_workspace / "data"
    graph.call(tiny_workspace, "config", "core.autostage", "false")

    def version(text: str) -> str:
        (data / "tales.txt").write_text(text, encoding="utf-8")
        graph.call(tiny_workspace, "add", "-q", "data/tales.txt")
        return hashlib.md5(text.encode()).hexdigest()

    digests = [version("in a commit")]
    for command in (["add", "-f", "data/tales.txt.dvc"], ["commit", "-qm", "data"]):
        named = ["-c", "user.name=a", "-c", "user.email=a"]
        subprocess.run(["git", *named, *command], cwd=tiny_workspace, check=True)
    digests.append(version("in a run"))
    mlflow = tracking.client(tiny_workspace)
    run_id = tracking.start_parent(tiny_workspace, "quickstart", {})
    tracking.log_datasets(mlflow, run_id, {"data/tales.txt": digests[1]})
    digests += [version("nowhere"), version("in the pointer")]

    def held() -> list[bool]:
        cache = tiny_workspace / ".dvc" / "cache" / "files" / "md5"
        return [(cache / digest[:2] / digest[2:]).is_file() for digest in digests]

    assert all(held()) and "1 " in cleaning.collect(tiny_workspace, dry=True) and all(held())
    cleaning.collect(tiny_workspace)
    assert held() == [True, True, False, True]


def test_clean_waits_for_no_run_in_another_workspace_of_the_cache(tmp_path, monkeypatch):
    """It deleted from the shared cache what that was about to use."""
    monkeypatch.setattr(cleaning, "collect", lambda _: "")
    mate = tmp_path / "mate"
    monkeypatch.setattr(cleaning, "workspaces", lambda _: [tmp_path, mate])
    with (
        hold(mate / ".kindling" / "run.lock"),
        pytest.raises(Held, match="run is held by process"),
    ):
        cleaning.clean(tmp_path, [], [])


def test_runs_are_forgotten_in_parts_that_an_argument_holds(tmp_path, monkeypatch):
    """Linux takes 128 KiB in one: 3,970 ids."""
    given = []

    def run(command, **_):
        given.append(command[-1])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(cleaning.subprocess, "run", run)
    monkeypatch.setattr(cleaning.settings, "tracking_uri", lambda _: "sqlite:///mlflow.db")
    monkeypatch.setattr(tracking, "client", lambda _: None)
    ids = [f"{number:032x}" for number in range(4500)]
    infos = [SimpleNamespace(run_id=run_id, lifecycle_stage="deleted") for run_id in ids]
    cleaning.forget(tmp_path, [SimpleNamespace(info=info) for info in infos])
    assert ",".join(given).split(",") == ids
    assert max(map(len, given)) < 128 * 1024
