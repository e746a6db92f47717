"""Feedback: kept before it is acknowledged, whatever is killed, and only on answers given here."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import httpx
import pytest

from components.serving.feedback import FILE, FeedbackStore, Memory, read
from components.serving.fingerprints import Fingerprints
from tests.conftest import isolate
from tests.serving import listening, make_gateway


@pytest.fixture
def gateway(folders, tmp_path):
    return make_gateway({name: folders[name] for name in ("base", "lora")}, tmp_path)


@pytest.fixture
def address(gateway):
    with listening(gateway) as found:
        yield found


def say(address, key=None, **body):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.post(f"{address}/v1/feedback", json=body, headers=headers, timeout=20)


def classified(address, text="the film was a .", key=None):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"model": "lora", "input": text}
    return httpx.post(f"{address}/v1/classify", json=body, headers=headers, timeout=20).json()


def test_feedback_is_kept_with_what_it_is_about(address, gateway, tmp_path):
    answer = classified(address)
    told = say(address, id=answer["id"], label="good")
    assert told.status_code == 200
    assert told.json()["fingerprint"] == answer["system_fingerprint"].removeprefix("fp_")
    body = {"model": "base", "prompt": "the", "max_tokens": 3, "seed": 1}
    completion = httpx.post(f"{address}/v1/completions", json=body).json()
    assert say(address, id=completion["id"], score=0.5, correction="the cast").status_code == 200
    first, second = read(tmp_path / FILE)
    assert (first["id"], first["label"], first["model"]) == (answer["id"], "good", "lora")
    assert first["asked"] == {"input": ["the film was a ."]}
    assert first["answered"] == [answer["results"][0]["label"]]
    assert second["asked"] == {"prompt": "the"} and second["correction"] == "the cast"
    assert second["answered"] == [completion["choices"][0]["text"]]
    assert 'kindling_feedback_total{kind="label"} 1.0' in httpx.get(f"{address}/metrics").text


def test_the_log_names_the_fingerprint_that_feedback_is_about(address, caplog):
    answer = classified(address)
    with caplog.at_level("INFO", "kindling.server"):
        say(address, id=answer["id"], score=1)
    told = [record.told for record in caplog.records if hasattr(record, "told")]
    assert told[-1]["path"] == "/v1/feedback" and told[-1]["model"] == "lora"
    assert f"fp_{told[-1]['fingerprint']}" == answer["system_fingerprint"]


def test_ids_that_were_not_given_are_refused(address, gateway):
    given = classified(address)["id"]
    forged = given[:-1] + ("0" if given[-1] != "0" else "1")
    swapped = given.replace("cls-", "cmpl-")
    for identity in (forged, swapped, given[:-24], "cls-" + "0" * 40, "../../etc/passwd", ""):
        refused = say(address, id=identity, score=1)
        assert refused.status_code == 404, identity
    for body in ({}, {"score": "much"}, {"label": ""}, {"score": 1, "why": "x"}):
        assert say(address, id=given, **body).status_code == 400, body
    key = gateway.keys.add("alice", ["base"], None)
    assert say(address, key=key, id=given, score=1).status_code == 404  # another tenant's model


def test_ids_are_known_after_a_restart_and_in_no_other_place(tmp_path):
    first = Fingerprints(tmp_path / "here")
    digest = first.of({"pipeline": "tiny"})
    identity = first.answer_id("cmpl", digest)
    assert Fingerprints(tmp_path / "here").gave(identity)
    assert not Fingerprints(tmp_path / "there").gave(identity)
    assert (tmp_path / "here" / "answers.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("cut", "left"), [(1, [1, 2]), (2, [1]), (30, [1]), (None, [1])])
def test_a_torn_line_is_recognised_and_the_next_is_whole(tmp_path, cut, left):
    """A line that lacks nothing but its end is whole."""
    store = FeedbackStore(tmp_path / FILE)
    for score in (1, 2):
        store.add({"id": "x", "score": score})
    whole = store.path.read_bytes()
    torn = whole[: -cut if cut else whole.index(b"\n") + 2]
    store.path.write_bytes(torn)
    assert [record["score"] for record in read(store.path)] == left
    store.add({"id": "x", "score": 3})
    assert [record["score"] for record in read(store.path)] == [*left, 3]
    assert store.path.read_bytes().startswith(torn)  # nothing that is there is ever rewritten


def test_an_altered_line_is_passed_over(tmp_path):
    store = FeedbackStore(tmp_path / FILE)
    for score in (1, 2):
        store.add({"id": "x", "score": score})
    store.path.write_bytes(store.path.read_bytes().replace(b'"score": 1', b'"score": 9'))
    assert [record["score"] for record in read(store.path)] == [2]


def test_stores_of_several_processes_do_not_mix_lines(tmp_path):
    code = (
        "import sys; from pathlib import Path; from components.serving.feedback import *; "
        "s = FeedbackStore(Path(sys.argv[1])); "
        "[s.add({'id': sys.argv[2], 'score': n, 'correction': 'é' * 5000}) for n in range(20)]"
    )
    path = tmp_path / FILE
    started = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    found = [(record["id"], record["score"]) for record in read(path)]
    assert sorted(found) == [(str(n), score) for n in range(3) for score in range(20)]


@pytest.fixture
def answer(address):
    """The id of one on which there is feedback already: a new file's folder is synced too."""
    given = classified(address)["id"]
    assert say(address, id=given, score=0).status_code == 200
    return given


def test_feedback_is_on_disk_before_it_is_acknowledged(address, answer, monkeypatch):
    """What only the system's memory holds outlives a kill, but not a power cut."""
    begun, go, real = threading.Event(), threading.Event(), os.fsync

    def fsync(file):
        begun.set()
        assert go.wait(20)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with ThreadPoolExecutor(1) as clients:
        told = clients.submit(say, address, id=answer, score=1)
        assert begun.wait(20) and not wait([told], timeout=0.3).done
        go.set()
        assert told.result(20).status_code == 200


def test_feedback_that_a_disk_does_not_take_is_not_acknowledged(address, answer, monkeypatch):
    def fsync(file):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    assert say(address, id=answer, score=1).status_code == 500


def test_memory_is_bounded():
    memory = Memory(characters=1000)
    for number in range(50):
        memory.keep(str(number), "x" * 100, "y")
    assert memory.of("49")["asked"] == "x" * 100
    assert memory.of("0") == {"asked": None, "answered": None}
    memory.keep("big", "x" * 5000, "y")
    assert memory.of("big")["asked"] is None and not memory._held


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kill_9(folders, tmp_path, monkeypatch):
    """The real command, killed twice while several clients send; then read, and served again."""
    isolate(monkeypatch, tmp_path)
    acknowledged: list[tuple[str, float]] = []
    for life in range(2):
        process, address = _started(folders, tmp_path)
        answer = classified(address)["id"]
        clients = [
            threading.Thread(target=_talk, args=(address, answer, life, n, acknowledged))
            for n in range(4)
        ]
        for client in clients:
            client.start()
        wanted = len(acknowledged) + 40
        while len(acknowledged) < wanted:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        for client in clients:
            client.join(20)
    kept = [(record["id"], record["score"]) for record in read(tmp_path / FILE)]
    assert set(acknowledged) <= set(kept) and len(kept) == len(set(kept))
    process, address = _started(folders, tmp_path)
    first = acknowledged[0][0]  # given by the first of three servers
    assert say(address, id=first, score=-1).status_code == 200
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert list(read(tmp_path / FILE))[-1]["score"] == -1


def _started(folders, workspace):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "flows.cli", "-C", str(workspace), "serve", "tiny",
        "--base", str(folders["base"]), "--adapter", f"lora={folders['lora']}", "--port", str(port),
    ]  # fmt: skip
    log = (workspace / "log.txt").open("a")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            httpx.get(f"{address}/health")
            return process, address
        except httpx.TransportError:
            assert process.poll() is None, (workspace / "log.txt").read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _talk(address, answer, life, client, acknowledged):
    """Send until the server is gone."""
    for number in range(100_000):
        score = life * 1e8 + client * 1e6 + number
        body = {"id": answer, "score": score, "correction": "é" * 300}
        try:
            response = httpx.post(f"{address}/v1/feedback", content=json.dumps(body),
                                  headers={"Content-Type": "application/json"})  # fmt: skip
        except httpx.TransportError:
            return
        if response.status_code == 200:
            acknowledged.append((answer, score))


def test_many_first_answers_at_once_have_one_record_and_one_seal(tmp_path):
    """Threads of one process once took each other's half-written file away."""
    for number in range(20):
        kept, start = Fingerprints(tmp_path / str(number)), threading.Barrier(16)

        def answer(_: int, kept=kept, start=start) -> str:
            start.wait()
            return kept.answer_id("cmpl", kept.of({"a": "b" * 100_000}))

        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(answer, range(16)))
        assert all(kept.gave(identity) for identity in found)
        assert len(list(kept.folder.iterdir())) == 2
