"""Models that come, go and fail while others are asked: no answer mixes two versions."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import httpx
import pytest

from components.lineage import read_json
from components.serving.deployment import Current, Deployment
from components.serving.limits import Serving
from components.serving.tracing import Tracer
from components.serving.watcher import Watcher
from tests.serving import listening, make_gateway
from tests.tiny_models import signed


@pytest.fixture
def gateway(folders, tmp_path):
    """Serves the adapter `lora` as version 1 of `taste`."""
    made = make_gateway({"base": folders["base"]}, tmp_path, Serving(log_texts=True))
    made.current.now.engine.add("taste@1", folders["lora"])
    made.current.replace(version(made, 1))
    return made


def version(gateway, number):
    engine = gateway.current.now.engine
    names, versions = {"taste": f"taste@{number}"}, {"base": 1, "taste": number}
    return Deployment(engine, {"pipeline": "tiny"}, names, versions)


@pytest.fixture
def address(gateway):
    with listening(gateway) as found:
        yield found


def ask(address, **body):
    body = {"model": "taste", "prompt": "the", "max_tokens": 12, "temperature": 0, **body}
    return httpx.post(f"{address}/v1/completions", json=body, timeout=30)


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_an_alias_that_moves_is_served_and_running_answers_keep_theirs(
    gateway, address, folders, monkeypatch
):
    engine, going, go = gateway.current.now.engine, threading.Event(), threading.Event()
    old_text, real = ask(address).json()["choices"][0]["text"], engine.generate

    def held(model, *args):
        for number, token in enumerate(real(model, *args)):
            yield token
            if number == 3 and model == "taste@1":
                going.set()
                go.wait(20)

    monkeypatch.setattr(engine, "generate", held)
    running: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: running.append(ask(address)))
    asking.start()
    assert going.wait(20)

    def look(now):
        engine.add("taste@2", folders["soft_prompt"])
        return version(gateway, 2)

    watcher = Watcher(gateway.current, look, seconds=0.01)
    assert watcher.look()
    assert "taste@1" in engine.models()  # as long as somebody's answer is made with it
    go.set()
    asking.join()
    new = ask(address).json()
    assert running[0].json()["choices"][0]["text"] == old_text
    prints = [answer["system_fingerprint"] for answer in (running[0].json(), new)]
    records = [read_json(gateway.fingerprints.folder / f"{p[3:]}.json") for p in prints]
    assert [record["adapter"]["version"] for record in records] == [1, 2]
    assert [record["adapter"]["method"] for record in records] == ["lora", "prompt_tuning"]
    until(lambda: "taste@1" not in engine.models())


def test_an_engine_ends_beside_who_used_it_last():
    """Who used it last is the event loop, which waited for the end of its batches' steps."""
    go, ended = threading.Event(), threading.Event()
    old = SimpleNamespace(close=lambda: go.wait(5) and ended.set())
    current = Current(Deployment(old, {"pipeline": "tiny"}, {}))
    with current.used():
        current.replace(Deployment(SimpleNamespace(), {"pipeline": "tiny"}, {}))
    assert not ended.is_set()
    go.set()
    assert ended.wait(5)


def test_a_request_asks_about_its_own_model_alone(gateway, address, monkeypatch):
    """Each request described every adapter, or copied a table of them."""
    engine = gateway.current.now.engine

    def never(*asked):
        raise AssertionError(f"asked about {asked or 'all models'}")

    for one, called in ((engine, "models"), (engine, "reason"), (engine.shelf, "versions")):
        monkeypatch.setattr(one, called, never)
    assert ask(address).status_code == 200
    text = {"model": "taste", "prompt": "the"}
    for path, body in (("inspect/predictions", text), ("tokenize", {"input": "the"})):
        assert httpx.post(f"{address}/v1/{path}", json=body, timeout=30).status_code == 200


def test_a_registry_that_fails_changes_nothing(gateway, address):
    def look(now):
        raise OSError("the registry is away")

    assert not Watcher(gateway.current, look, 1).look()
    assert ask(address).status_code == 200


def test_the_watcher_looks_by_itself_and_stops(gateway):
    looks = []
    watcher = Watcher(gateway.current, lambda now: looks.append(now), seconds=0.01)
    watcher.start()
    until(lambda: len(looks) > 2)
    watcher.stop()
    watcher._thread.join(5)
    assert not watcher._thread.is_alive()


def test_a_model_that_cannot_be_served_says_why(gateway, address, folders, tmp_path):
    """503 with the reason, and never the base's answer."""
    strange = tmp_path / "strange"
    strange.mkdir()
    described = read_json(folders["lora"] / "adapter.json") | {"base": "0" * 64}
    for name in ("adapter_model.safetensors", "adapter_config.json", "lineage.json"):
        (strange / name).write_bytes((folders["lora"] / name).read_bytes())
    (strange / "adapter.json").write_text(json.dumps(described), encoding="utf-8")
    signed(strange)
    engine = gateway.current.now.engine
    engine.add("taste@3", strange)
    now = version(gateway, 3)
    gateway.current.replace(
        Deployment(engine, now.identity, now.names, now.versions, refused={"gone": "altered"})
    )
    for model, why in [("taste", "was trained on base 000000000000"), ("gone", "altered")]:
        refused = ask(address, model=model)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "model_unavailable"
        assert why in refused.json()["error"]["message"]
    listed = httpx.get(f"{address}/v1/models").json()["data"]
    assert [(m["id"], m["available"]) for m in listed] == [
        ("base", True), ("gone", False), ("taste", False),
    ]  # fmt: skip
    assert ask(address, model="base").status_code == 200


def lines(caplog):
    return [r.told for r in caplog.records if r.name == "kindling.server" and hasattr(r, "told")]


@pytest.mark.parametrize("texts", [True, False])
def test_the_log_has_a_line_for_each_request(gateway, folders, tmp_path, caplog, texts):
    limits = Serving(log_texts=texts)
    asked = make_gateway({"base": folders["base"]}, tmp_path / "other", limits)
    with caplog.at_level("INFO", "kindling.server"), listening(asked) as address:
        answer = ask(address, model="base", prompt="a secret").json()
        ask(address, model="nothing")
        httpx.get(f"{address}/health")
        until(lambda: len(lines(caplog)) >= 2)
    told = lines(caplog)
    assert len(told) == 2  # none of /health
    assert told[0]["answer"] == answer["id"] and told[0]["status"] == 200
    assert f"fp_{told[0]['fingerprint']}" == answer["system_fingerprint"]
    assert told[0]["completion_tokens"] == answer["usage"]["completion_tokens"]
    assert 0 < told[0]["first_token_seconds"] <= told[0]["seconds"]
    assert (told[1]["status"], told[1]["refused"]) == (404, "model_not_found")
    assert ("secret" in json.dumps(told)) is texts


def test_figures_count_what_was_done(gateway, address):
    answer = ask(address).json()
    ask(address, model="nothing")
    figures = httpx.get(f"{address}/metrics").text
    made = answer["usage"]["completion_tokens"]
    for line in (
        f'kindling_tokens_total{{direction="out",model="taste"}} {float(made)}',
        'kindling_first_token_seconds_count{model="taste"} 1.0',
        'kindling_refusals_total{reason="model_not_found"} 1.0',
        'kindling_requests_total{endpoint="/v1/completions",model="taste",status="200"} 1.0',
        "kindling_queue 0.0",
        "kindling_running 0.0",
    ):
        assert line in figures, line


def test_the_engines_own_figures_are_told(gateway, address, monkeypatch):
    engine = gateway.current.now.engine
    monkeypatch.setattr(engine, "figures", lambda: {"prefix_hits": 3.0})
    assert "kindling_engine_prefix_hits_total 3.0" in httpx.get(f"{address}/metrics").text


@pytest.mark.parametrize("texts", [True, False])
def test_requests_become_traces_for_those_who_ask(gateway, address, tmp_path, monkeypatch, texts):
    import mlflow

    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")  # as `kindling serve` does
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'traces.db'}")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'traces.db'}")
    experiment = mlflow.create_experiment("tiny", artifact_location=str(tmp_path / "runs"))
    tracer = Tracer(experiment, texts)
    gateway.listeners.append(tracer)
    answer = ask(address, prompt="a secret").json()
    ask(address, model="nothing")  # no answer, no trace
    until(lambda: not tracer._waiting.unfinished_tasks)
    tracer.close()
    found = mlflow.MlflowClient().search_traces([experiment])
    assert [trace.info.tags["kindling.answer"] for trace in found] == [answer["id"]]
    span = found[0].data.spans[0]
    assert span.name == "/v1/completions" and span.attributes["status"] == 200
    assert ("a secret" in json.dumps(span.inputs)) is texts


CLOSING = """
from components.serving import tracing
from components.serving.story import Story
from flows import settings
settings.make_haste()
tracing.CLOSE_SECONDS = 0.3
tracer = tracing.Tracer("1", texts=False)
tracer(Story("r", "POST", "/v1/completions", answer="cmpl-1"))
input()
tracer.close()
"""


def test_a_store_that_hangs_keeps_no_process_from_its_end():
    """It waited for MLflow, so a server whose store was away went on after SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(120)
        store = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-c", CLOSING], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "MLFLOW_TRACKING_URI": store}, text=True,
        )  # fmt: skip
        asked, _ = silent.accept()
        with asked:
            _, said = process.communicate("\n", timeout=60)
    assert process.returncode == 0 and "1 traces were dropped" in said
