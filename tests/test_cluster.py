"""What a cluster is asked for, without one."""

import pytest

from components.cluster import HANDED_ON, connection
from components.compute import Compute
from flows import cluster, settings, stages


def compute(**changes) -> Compute:
    return Compute(**{"threads": 4, "jobs": 2, "engine": "ray", **changes})


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"ray and prefect_ray is not .* -e '\.\[ray\]'"):
        cluster.require(compute())
    cluster.require(compute(engine="local"))


def test_several_nodes_need_a_cluster_that_runs(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: "found")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ValueError, match="nodes is 2, and RAY_ADDRESS names no cluster"):
        cluster.require(compute(nodes=2))
    monkeypatch.setenv("RAY_ADDRESS", "gpu1:6379")
    cluster.require(compute(nodes=2))


def test_a_cluster_is_joined_or_started(monkeypatch):
    for name in HANDED_ON:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", "/here")
    joined = connection("gpu1:6379", 4, {"MLFLOW_TRACKING_URI": "http://gpu1:5000"})
    told = {"PYTHONPATH": "/here", "MLFLOW_TRACKING_URI": "http://gpu1:5000"}
    assert joined == {"address": "gpu1:6379", "runtime_env": {"env_vars": told}}
    started = connection(None, 4)
    assert started["address"] == "local" and started["num_cpus"] == 4


@pytest.mark.parametrize(
    ("stage", "accelerators", "needs"),
    [
        ("adapter@a", False, {"num_cpus": 2, "num_gpus": 0}),
        ("adapter@a", True, {"num_cpus": 2, "num_gpus": 1}),
        ("corpus@a", True, {"num_cpus": 2, "num_gpus": 0}),
        ("base@a", True, {"num_cpus": 0}),
        ("tokens@a", False, {"num_cpus": 0}),
    ],
)
def test_a_stage_takes_its_threads_and_one_accelerator_if_it_uses_any(stage, accelerators, needs):
    assert cluster._needs(compute(), stage, accelerators) == needs


def test_machines_meet_where_the_engine_says(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "gpu1:6379")
    assert stages._group(compute(nodes=2, processes=2)).meeting == "gpu1:6379"
    local = compute(engine="local", nodes=2, processes=2, rendezvous="gpu1:29400")
    group = stages._group(local)
    assert (group.meeting, group.count, group.threads_each) == ("gpu1:29400", 4, 2)


def test_a_stage_is_told_only_what_there_is_to_tell():
    assert settings.told(None) == {}
    assert settings.told("run", cluster="a:1") == {settings.PARENT_RUN: "run", "RAY_ADDRESS": "a:1"}
