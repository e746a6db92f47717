"""What the server grants and to whom: keys, rates, limits, and how it goes away."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from components.inference.batcher import Limits
from components.inference.checkpoint import config_of, shape_of
from components.inference.store import Store
from components.serving import listener
from components.serving.batched_engine import ADAPTER_BYTES, BatchedEngine
from components.serving.deployment import Deployment
from components.serving.engines import engine_of
from components.serving.gateway import Gateway
from components.serving.inspection import Outlook
from components.serving.keys import FILE, KeyFileError, Keys, Rates, is_loopback
from components.serving.limits import Serving
from components.serving.templates import FolderTemplates, RegistryTemplates
from flows import serving
from flows.cli import app
from tests.conftest import make_workspace
from tests.serving import listening, make_gateway, running
from tests.tiny_models import signed

FEW = ("base", "lora", "zero_shot")
LIMITS = Serving(
    prompt_tokens=40, output_tokens=30, choices=3, texts=4, body_bytes=4096, queue=1,
    seconds=2.0, grace_seconds=3.0, requests_per_minute=600,
)  # fmt: skip


@pytest.fixture
def gateway(folders, tmp_path):
    return make_gateway({name: folders[name] for name in FEW}, tmp_path, LIMITS)


@pytest.fixture
def address(gateway):
    with listening(gateway) as found:
        yield found


@pytest.fixture
def held(gateway, monkeypatch):
    """The engine, held after each request's second token until `.go` is set."""
    engine = gateway.current.now.engine
    real, state = engine.generate, SimpleNamespace(made=0, go=threading.Event())

    def generate(*args):
        for number, token in enumerate(real(*args)):
            state.made += 1
            if number == 2:
                state.go.wait(20)
            yield token

    monkeypatch.setattr(engine, "generate", generate)
    yield state
    state.go.set()


def ask(address, path="completions", key=None, timeout=20, **body):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"model": "base", "prompt": "the", "max_tokens": 4, "temperature": 0, **body}
    return httpx.post(f"{address}/v1/{path}", json=body, headers=headers, timeout=timeout)


def in_thread(*args, **body):
    """A request on its way; its response comes into the list."""
    found = []
    thread = threading.Thread(target=lambda: found.append(ask(*args, **body)), daemon=True)
    thread.start()
    return thread, found


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# -- keys ------------------------------------------------------------------------------------


def test_a_key_is_kept_as_its_hash_and_ends_when_revoked(tmp_path):
    keys = Keys(tmp_path / FILE)
    assert not keys.required()
    made = keys.add("alice", ["lora"], 30)
    text = (tmp_path / FILE).read_text(encoding="utf-8")
    assert made not in text and made.removeprefix("kd-") not in text
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    renamed = os.replace

    def replace(made: Path, place: Path) -> None:
        assert made.stat().st_mode & 0o077 == 0, "others may read it for a moment"
        renamed(made, place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        keys.add("another", None, None)
    keys.revoke("another")
    reader = Keys(tmp_path / FILE)  # as the server, which another process changes the file under
    assert reader.find(made).name == "alice" and reader.find(made + "x") is None
    with pytest.raises(KeyFileError, match="there is a key 'alice'; revoke it first"):
        keys.add("alice", None, None)
    keys.revoke("alice")
    assert reader.find(made) is None
    with pytest.raises(KeyFileError, match="no key 'bob'; there are: none"):
        keys.revoke("bob")


def test_a_broken_file_of_keys_lets_nobody_in(gateway, address, tmp_path):
    (tmp_path / FILE).parent.mkdir(exist_ok=True)
    (tmp_path / FILE).write_text('{"keys": [{"name": "x"}]}', encoding="utf-8")
    assert ask(address).status_code >= 400


def test_no_key_no_answer_once_there_is_one(gateway, address):
    assert ask(address).status_code == 200
    key = gateway.keys.add("alice", None, None)
    refused = ask(address)
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["code"] == "invalid_key"
    assert ask(address, key="kd-guess").status_code == 401
    assert ask(address, key=key).status_code == 200
    assert httpx.get(f"{address}/health").json() == {"status": "ok", "models": []}
    assert httpx.get(f"{address}/metrics").status_code == 401
    gateway.keys.revoke("alice")
    assert ask(address).status_code == 401  # none left, which is no invitation
    gateway.keys.path.unlink()
    assert ask(address).status_code == 200


def test_with_keys_a_server_answers_under_any_name(gateway, address):
    """Behind a proxy it has the proxy's; and who has a key is no page of elsewhere."""
    key = gateway.keys.add("alice", None, None)
    headers = {"Authorization": f"Bearer {key}", "Host": "models.example.org"}
    assert httpx.get(f"{address}/v1/models", headers=headers).status_code == 200


def test_another_tenants_model_looks_like_none(gateway, address):
    key = gateway.keys.add("alice", ["lora"], None)
    gateway.keys.add("bob", None, None)
    headers = {"Authorization": f"Bearer {key}"}
    listed = httpx.get(f"{address}/v1/models", headers=headers).json()["data"]
    assert [entry["id"] for entry in listed] == ["lora"]
    theirs = ask(address, key=key, model="zero_shot")
    none = ask(address, key=key, model="nothing")
    assert theirs.status_code == none.status_code == 404
    said = [each.json()["error"]["message"] for each in (theirs, none)]
    assert said[0].replace("zero_shot", "nothing") == said[1] and "base" not in said[0]
    for path, more in [
        ("classify", {"input": "x"}),
        ("tokenize", {"input": "x"}),
        ("inspect/predictions", {"prompt": "x"}),
    ]:
        body = {"model": "zero_shot", **more}
        response = httpx.post(f"{address}/v1/{path}", json=body, headers=headers)
        assert response.status_code == 404, path
    assert httpx.get(f"{address}/metrics", headers=headers).status_code == 403


def test_lineage_names_no_model_of_another_tenant(gateway, tmp_path):
    """The record of an answer holds the versions of all models that were served."""
    now = gateway.current.now
    versions = {"base": 1, "lora": 2, "zero_shot": 3}
    gateway.current.replace(Deployment(now.engine, now.identity, now.names, versions))
    alice, bob = gateway.keys.add("alice", ["lora"], None), gateway.keys.add("bob", None, None)

    def lineage(identity):
        record = gateway.fingerprints.record(identity.removeprefix("fp_"))
        return {"kind": "answer", "record": record, "chain": []}

    def told(key, answer):
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(f"{address}/v1/lineage/{answer}", headers=headers).json()["record"]

    with listening(gateway, Outlook(lineage=lineage)) as address:
        answer = ask(address, key=alice, model="lora", max_tokens=1).json()["id"]
        assert told(bob, answer)["versions"] == versions
        assert told(alice, answer) == told(bob, answer) | {"versions": {"base": 1, "lora": 2}}
        forged = answer[:-1] + ("0" if answer[-1] != "0" else "1")  # as feedback refuses it
        headers = {"Authorization": f"Bearer {bob}"}
        assert httpx.get(f"{address}/v1/lineage/{forged}", headers=headers).status_code == 404


@pytest.mark.parametrize("path", ["classify", "completions"])
def test_what_is_kept_of_a_prompt_is_its_owners_alone(gateway, address, path):
    """Else the time of an answer would tell one tenant what another has asked."""
    keys = [gateway.keys.add(name, None, None) for name in ("alice", "bob")]
    text = "the film was a and the plot was b and the cast was a and the end was b"
    engine = gateway.current.now.engine

    def read(key: str) -> float:
        """Positions that the engine read for one request, and found nowhere."""
        before = engine.figures()["prefix_misses"]
        body = {"input": text} if path == "classify" else {"prompt": text, "max_tokens": 1}
        headers = {"Authorization": f"Bearer {key}"}
        body |= {"model": "lora"}
        assert httpx.post(f"{address}/v1/{path}", json=body, headers=headers).status_code == 200
        return engine.figures()["prefix_misses"] - before

    first, again, other = read(keys[0]), read(keys[0]), read(keys[1])
    assert again < first == other


def test_a_key_has_a_rate_of_its_own(gateway, address):
    slow, fast = gateway.keys.add("slow", None, 2), gateway.keys.add("fast", None, None)
    codes = [ask(address, key=slow, max_tokens=1).status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    refused = ask(address, key=slow)
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.json()["error"]["code"] == "rate_limited"
    headers, place = {"Authorization": f"Bearer {slow}"}, f"{address}/v1/inspect/neighbours/base"
    assert httpx.get(place, headers=headers).status_code == 429, "a look inside is work as well"
    assert httpx.get(f"{address}/v1/models", headers=headers).status_code == 200
    assert ask(address, key=fast, max_tokens=1).status_code == 200


def test_a_bucket_fills_steadily(tmp_path):
    keys = Keys(tmp_path / FILE)
    key = keys.find(keys.add("alice", None, 60))
    rates = Rates(600)
    assert [rates.wait(key, 100.0) for _ in range(60)] == [0.0] * 60
    assert rates.wait(key, 100.0) == pytest.approx(1.0)
    assert rates.wait(key, 100.5) == pytest.approx(0.5)
    assert rates.wait(key, 101.01) == 0.0
    assert rates.wait(key, 10_000.0) == 0.0  # holds a minute's requests and no more
    assert sum(rates.wait(key, 10_000.0) == 0.0 for _ in range(100)) == 59


def test_the_command_makes_lists_and_revokes(tmp_path):
    def kindling(*words):
        return CliRunner().invoke(app, ["-C", str(tmp_path), "keys", *words])

    added = kindling("add", "alice", "--model", "lora", "--model", "base", "--rate", "30")
    made = added.stdout
    assert "whether there are such models is not known: lora, base" in added.stderr
    assert Keys(tmp_path / FILE).find(made.strip()).models == ["lora", "base"]
    listed = kindling("list").output
    assert "alice: lora, base; 30 a minute" in listed and made.strip() not in listed
    assert "revoked alice" in kindling("revoke", "alice").output
    assert kindling("list").output == "no keys; make one with 'kindling keys add NAME'\n"
    refused = kindling("add", "al ice").exception
    assert "'al ice' is no name for a key" in str(refused) and len(str(refused).splitlines()) == 1


def test_a_key_for_a_model_that_is_none_is_refused(tmp_path):
    """It once opened nothing, and said so to nobody."""
    workspace = make_workspace(tmp_path / "workspace")

    def kindling(*words):
        return CliRunner().invoke(app, ["-C", str(workspace), "keys", "add", *words])

    refused = str(kindling("alice", "--model", "lora", "--model", "lara").exception)
    known = "base, full, lora, soft_prompt, zero_shot"
    assert refused == f"no model 'lara'; did you mean 'lora'? known: {known}"
    made = kindling("alice", "--model", "lora", "--model", "base").stdout
    assert Keys(workspace / FILE).find(made.strip()).models == ["lora", "base"]


def test_keys_that_are_made_at_once_are_all_kept(tmp_path):
    """Each process wrote what it had read, and the last one won."""
    code = (
        "import sys; from pathlib import Path; from components.serving.keys import Keys\n"
        "for n in range(20): Keys(Path(sys.argv[1])).add(f'{sys.argv[2]}-{n}', None, None)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / FILE)]
    makers = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0]
    assert len(Keys(tmp_path / FILE).all()) == 60


def test_a_server_that_nobody_may_ask_does_not_start(tmp_path):
    keys = Keys(tmp_path / FILE)
    keys.add("alice", None, None)
    keys.revoke("alice")
    with pytest.raises(serving.ServeError, match=r"or remove .*keys\.json to let everybody"):
        serving.serve(tmp_path, "tiny", "127.0.0.1", 0, "champion", None, [])


def test_other_machines_are_not_served_without_a_key(tmp_path):
    for host in ("0.0.0.0", "192.0.2.7", "::", "example.org"):
        with pytest.raises(serving.ServeError, match="'kindling keys add NAME'"):
            serving.serve(tmp_path, "tiny", host, 0, "champion", None, [])
    for host in ("127.0.0.1", "127.0.0.9", "localhost", "::1"):
        assert is_loopback(host)


@pytest.mark.slow
def test_the_command_says_where_it_listens_and_which_adapters_it_refused(folders, tmp_path):
    """It said port 0, and nothing of an adapter that did not prove itself after the start."""
    dead = tmp_path / "dead"
    shutil.copytree(folders["lora"], dead)
    weights = load_file(dead / "adapter_model.safetensors")
    still = {name: weight * 0 for name, weight in weights.items()}
    save_file(still, dead / "adapter_model.safetensors")
    signed(dead)
    command = [
        sys.executable, "-m", "flows.cli", "-C", str(tmp_path), "serve", "tiny", "--port", "0",
        "--base", str(folders["base"]), "--adapter", f"dead={dead}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = {"serving": "", "playground: ": "", "dead: ": ""}
        for line in process.stdout:
            said |= {word: line for word in said if word in line}
            if all(said.values()):
                break
        address = said["serving"].split(" on ")[1].strip()
        assert httpx.get(f"{address}/health").json()["status"] == "ok"
        assert said["playground: "].strip().endswith(f"{address}/playground")
        assert "changes nothing" in said["dead: "]
    finally:
        process.kill()
        process.wait(20)


# -- limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("completions", {"prompt": "the film " * 60}, "takes 40 at most (serving.prompt_tokens)"),
        ("completions", {"max_tokens": 31}, "more than the 30 that this server gives in an answer"),
        ("completions", {"n": 4}, "takes 3 at most (serving.choices)"),
        ("classify", {"model": "lora", "input": ["x"] * 5}, "takes 4 at most (serving.texts)"),
        ("tokenize", {"input": "the film " * 60}, "tells 40 at most (serving.prompt_tokens)"),
    ],
)
def test_more_than_is_granted_is_refused_by_name(address, path, body, said):
    body = {"model": "base", **({} if path != "completions" else {"prompt": "the"}), **body}
    response = httpx.post(f"{address}/v1/{path}", json=body)
    assert response.status_code == 400 and said in response.json()["error"]["message"]


def test_limits_are_checked_in_the_catalogue():
    with pytest.raises(ValueError, match="queue"):
        Serving(queue=-1)
    with pytest.raises(ValueError, match="requests"):
        Serving(requests=3)


def test_the_template_shows_every_limit_with_its_default():
    text = (Path(serving.__file__).parent / "template" / "pipelines.yaml").read_text("utf-8")
    shown = text[text.index("# serving:") :].split("\n\n")[0]
    block = YAML(typ="safe").load(re.sub("^# ?", "", shown, flags=re.MULTILINE))["serving"]
    assert block == Serving().model_dump()


def test_the_engine_has_the_batch_and_the_memory_that_it_is_granted(folders):
    """They were once fixed."""
    granted = Serving(batch=3, pool_bytes=1 << 20, adapter_bytes=5000)
    engine = engine_of(folders["base"], serving=granted)
    size = Store.bytes_of_block(engine.batcher.decoder.weights.shape)
    assert engine.at_once == 3 and engine.shelf.budget == 5000
    assert engine.batcher.pool.blocks == (1 << 20) // size
    engine.close()
    assert Serving().adapter_bytes == ADAPTER_BYTES
    assert (Serving().batch, Serving().pool_bytes) == (Limits().rows, Limits().pool_bytes)


def test_a_plain_chat_asks_for_no_more_than_there_is_room_for(folders, tmp_path):
    """It asked for the rest of the context, and was refused where the pool is smaller."""
    size = Store.bytes_of_block(shape_of(config_of(folders["base"])))
    limits = Limits(rows=2, pool_bytes=3 * size)
    adapters = {"soft_prompt": folders["soft_prompt"]}
    engine = BatchedEngine(folders["base"], adapters, limits=limits)
    deployment, keys = Deployment.of_folders(engine, "tiny"), Keys(tmp_path / FILE)
    small = Gateway(deployment, FolderTemplates({}), tmp_path, Serving(), keys)
    with listening(small) as address:
        for model in ("base", "soft_prompt"):
            body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
            plain = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=30)
            assert plain.status_code == 200, plain.text
        more = ask(address, max_tokens=48)
        assert more.status_code == 400 and "has room for" in more.json()["error"]["message"]
    engine.close()


def test_a_queue_that_is_full_says_when_to_come_again(gateway, address, held):
    working, _ = in_thread(address)
    until(lambda: held.made == 3)
    waiting, told = in_thread(address)
    until(lambda: gateway.line.waiting == 1)
    refused = ask(address)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "overloaded"
    held.go.set()
    working.join()
    waiting.join()
    assert told[0].status_code == 200


def test_nobody_waits_without_an_answer(gateway, address, held):
    """At work, in line, streamed: all hear within the time, though the engine never answers."""
    (_, first), (_, second) = in_thread(address), in_thread(address)
    until(lambda: first and second)
    assert [each[0].status_code for each in (first, second)] == [504, 504]
    assert first[0].json()["error"]["code"] == "timeout"
    assert gateway.line.requests == 0
    held.go.set()
    until(lambda: not gateway.line.running)
    held.go.clear()
    streamed = ask(address, stream=True, max_tokens=20)
    assert streamed.status_code == 200  # it had begun
    last = streamed.text.strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_of_an_answer_that_was_cut_off_are_counted(gateway, address, held, stream):
    cut = ask(address, stream=stream, max_tokens=20)
    assert "was not finished in time" in cut.text
    figures = httpx.get(f"{address}/metrics").text
    read = len(gateway.current.now.engine.encode("the"))
    assert f'kindling_tokens_total{{direction="in",model="base"}} {float(read)}' in figures
    assert 'kindling_tokens_total{direction="out",model="base"} 2.0' in figures


class Hanging:
    """A registry that is away, and answers once `go` is set."""

    def __init__(self):
        self.go = threading.Event()

    def prompt_versions(self, name):
        self.go.wait(60)
        return []


def test_a_registry_that_hangs_is_waited_for_within_the_time(gateway, address):
    """It was waited for as long as MLflow tries, which is minutes."""
    registry = Hanging()
    gateway.templates = RegistryTemplates(registry, ["ask"])
    late = ask(address, template={"id": "ask"}, timeout=30)
    assert late.status_code == 504 and late.json()["error"]["code"] == "timeout"
    assert gateway.line.requests == 0
    registry.go.set()


def test_a_registry_that_hangs_leaves_other_endpoints_alone(folders, tmp_path, monkeypatch):
    """Forty requests that named a template took every thread, and even /health hung."""
    monkeypatch.setattr("components.serving.templates.FIRST_SECONDS", 60)
    gateway = make_gateway({"base": folders["base"]}, tmp_path, Serving(queue=100))
    registry = Hanging()
    gateway.templates = RegistryTemplates(registry, ["ask"])
    with listening(gateway) as address:
        asked = [in_thread(address, template={"id": "ask"}, timeout=60) for _ in range(60)]
        until(lambda: gateway.line.requests == 60)
        for path in ("health", "v1/models"):
            assert httpx.get(f"{address}/{path}", timeout=20).status_code == 200
        assert ask(address).status_code == 200  # it names no template
        assert gateway.line.requests == 60
        registry.go.set()
        for thread, told in asked:
            thread.join(60)
            assert told[0].status_code == 404  # there is none


def test_the_command_gives_a_registry_up_soon(tmp_path, monkeypatch):
    """MLflow tries seven times, with two minutes for each; what a user has set stays."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    monkeypatch.setattr(serving, "assemble", lambda *_: (None, None, None))
    monkeypatch.setattr(serving, "_listen", lambda *_: None)
    monkeypatch.setattr(serving.logs, "install", lambda: None)
    serving.serve(tmp_path, "tiny", "127.0.0.1", 0, "champion", None, [])
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"


def slow_reader(address, **body):
    """A connection on which a long stream was asked for, with small buffers."""
    url = httpx.URL(address)
    given = {"model": "base", "prompt": "the", "stream": True, "n": 3, "logprobs": 20, **body}
    sent = json.dumps(given).encode()
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.settimeout(20)
    lazy.connect((url.host, url.port))
    lazy.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + f"Connection: close\r\nContent-Length: {len(sent)}\r\n\r\n".encode()
        + sent
    )
    return lazy


@pytest.fixture
def narrow(monkeypatch):
    """Servers' connections hold little of what is not read."""
    real = listener.PatientProtocol.connection_made

    def connection_made(self, transport):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        real(self, transport)

    monkeypatch.setattr(listener.PatientProtocol, "connection_made", connection_made)


def test_a_stream_that_nobody_reads_holds_nobody_up(narrow, gateway):
    """Of a short one nothing waits to be sent: it finds room in the system's buffers."""
    with running(gateway) as (address, server), slow_reader(address, max_tokens=30):
        connections = server.server_state.connections
        until(lambda: any(each.flow.write_paused for each in list(connections)))
        assert ask(address, max_tokens=2).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_who_reads_nothing_is_dropped(narrow, gateway, monkeypatch, stream):
    """Its connection was closed, which waits for what is left to be sent, and counted for ever."""
    monkeypatch.setattr(listener, "WRITE_SECONDS", 0.3)
    asked = {"stream": stream, "max_tokens": 30, "temperature": 2, "seed": 1}
    with running(gateway) as (address, server), slow_reader(address, **asked):
        connections = server.server_state.connections
        until(lambda: any(each.flow.write_paused for each in list(connections)))
        until(lambda: not connections)


def test_who_reads_slowly_is_not_dropped(narrow, gateway, address, monkeypatch):
    monkeypatch.setattr(listener, "WRITE_SECONDS", 2)
    read, begun = b"", time.monotonic()
    with slow_reader(address, stream=False, max_tokens=30, temperature=2, seed=1) as lazy:
        while part := lazy.recv(1000):
            read += part
            time.sleep(0.1)
    assert time.monotonic() - begun > 2
    assert len(json.loads(read.partition(b"\r\n\r\n")[2])["choices"]) == 3


def test_a_slow_reader_takes_no_place_and_no_more_than_the_time(narrow, gateway, address):
    """Its place was kept until it had read all, and no time ended it."""
    begun = time.monotonic()
    with slow_reader(address, max_tokens=30, temperature=2, seed=1) as lazy:
        read = lazy.recv(500)
        until(lambda: not gateway.line.requests)
        assert time.monotonic() - begun < LIMITS.seconds
        assert ask(address, max_tokens=2).status_code == 200
        while part := lazy.recv(500):
            read += part
            time.sleep(0.03)
    assert LIMITS.seconds - 0.5 < time.monotonic() - begun < LIMITS.seconds + 8
    assert b'"code": "timeout"' in read[-600:] and b"[DONE]" not in read


# -- going away ------------------------------------------------------------------------------


def test_sigterm_finishes_what_is_at_work_and_refuses_the_rest(folders, tmp_path, monkeypatch):
    gateway = make_gateway({name: folders[name] for name in FEW}, tmp_path, LIMITS)
    engine, go = gateway.current.now.engine, threading.Event()
    monkeypatch.setattr(engine, "generate", _held_back(engine.generate, go))
    with running(gateway) as (address, server):
        _, told = in_thread(address)
        until(lambda: gateway.line.running == 1)
        server.handle_exit(signal.SIGTERM, None)
        refused = ask(address)
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "draining"
        assert httpx.get(f"{address}/health").status_code == 503
        go.set()
        until(lambda: told)
        assert told[0].status_code == 200
        until(lambda: server.should_exit)


def test_what_does_not_finish_within_the_grace_time_gets_an_error(folders, tmp_path, monkeypatch):
    limits = LIMITS.model_copy(update={"grace_seconds": 0.2, "seconds": 60})
    gateway = make_gateway({name: folders[name] for name in FEW}, tmp_path, limits)
    engine, go = gateway.current.now.engine, threading.Event()
    monkeypatch.setattr(engine, "generate", _held_back(engine.generate, go))
    with running(gateway) as (address, server):
        _, told = in_thread(address)
        until(lambda: gateway.line.running == 1)
        server.drain()
        until(lambda: told)
        assert told[0].status_code == 503 and told[0].json()["error"]["code"] == "draining"
        go.set()


def test_who_waits_in_line_hears_that_the_server_goes(folders, tmp_path, monkeypatch):
    """They were left until uvicorn gave them up: a bare 500, and no word of when to come again."""
    limits = LIMITS.model_copy(update={"grace_seconds": 0.2, "seconds": 60, "queue": 3})
    gateway = make_gateway({name: folders[name] for name in FEW}, tmp_path, limits)
    engine, go = gateway.current.now.engine, threading.Event()
    monkeypatch.setattr(engine, "generate", _held_back(engine.generate, go))
    with running(gateway) as (address, server):
        asked = [in_thread(address, n=number) for number in (1, 1, 2)]
        until(lambda: gateway.line.waiting == 3)
        server.drain()
        for thread, told in asked:
            thread.join(20)
            assert told[0].status_code == 503 and told[0].headers["retry-after"] == "5"
            assert told[0].json()["error"]["code"] == "draining"
        go.set()
    assert (gateway.line.waiting, gateway.line.requests) == (0, 0)


def _held_back(real, go):
    def generate(*args):
        go.wait(20)
        yield from real(*args)

    return generate
