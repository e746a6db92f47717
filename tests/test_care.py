"""What `kindling doctor` and `kindling status` say of a workspace."""

import os
import socket
from importlib import metadata
from types import SimpleNamespace

import pytest

from flows import care, graph, release
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


def test_status_names_the_newest_registered_version_of_each_model(tiny_workspace, monkeypatch):
    numbers = {"quickstart.base": [1, 2], "quickstart.lora": [9, 10]}
    store = SimpleNamespace(
        versions=lambda name: [SimpleNamespace(version=str(n)) for n in numbers.get(name, [])],
        tags=lambda name: {},
    )
    monkeypatch.setattr(release, "registry", lambda workspace: store)
    monkeypatch.setattr(graph, "stale", lambda workspace: {"base@quickstart": []})
    told = care.status(tiny_workspace)["pipelines"]["quickstart"]
    assert told["registered"] == {"base": 2, "lora": 10}
    assert told["release"] is None
    assert told["stages"]["base@quickstart"] == "stale"
