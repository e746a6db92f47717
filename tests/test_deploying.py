"""Aliases that move while the registry fails: what is served stays, and nothing is lost."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from components.asking import Asked, RegistryAway
from components.lineage import write_json
from components.promotion import Releases
from components.registry import CHAMPION, CONTENT, Registry, RegistryError
from components.serving.deployment import Current
from components.serving.engine import RequestError
from components.serving.limits import Serving
from components.serving.templates import FolderTemplates, RegistryTemplates, find
from components.serving.watcher import Watcher
from flows import deploying


class Client:
    """MLflow's client of a store with the bases 1 and 2, adapters of each, and a prompt.

    bases: of adapters that were trained on another. away: what it does not answer about. go: it
    answers once that is set. asked: about what.
    """

    def __init__(self) -> None:
        self.base, self.adapters, self.away = 1, {"lora": 1, "ia3": 1}, set()
        self.bases: dict[str, int] = {}
        self.go, self.asked, self.wording = threading.Event(), [], "{{text}} it was"
        self.go.set()

    def _require(self, name: str) -> None:
        self.asked.append(name)
        self.go.wait(60)
        if name in self.away:
            raise MlflowException("database is locked")

    def get_model_version_by_alias(self, name: str, alias: str) -> SimpleNamespace:
        self._require(name)
        called = name.removeprefix("tiny.")
        versions = {"base": self.base, **self.adapters}
        if called not in versions:
            raise MlflowException("no such model", RESOURCE_DOES_NOT_EXIST)
        tags = {"kindling.base": str(self.bases.get(called, self.base))}
        return SimpleNamespace(version=str(versions[called]), tags=tags)

    def get_model_version(self, name: str, version: str) -> SimpleNamespace:
        self._require(f"{name}/{version}")
        return SimpleNamespace(tags={"kindling.prompt_version": "1"})

    def search_prompt_versions(self, name: str) -> list[SimpleNamespace]:
        self._require(name)
        return [SimpleNamespace(version="1")]

    def search_model_versions(self, wanted: str) -> list[SimpleNamespace]:
        self._require(wanted.split("'")[1])
        return []

    def get_prompt_version(self, name: str, version: str) -> SimpleNamespace:
        return SimpleNamespace(version="1", template=self.wording, aliases=[CHAMPION])

    def get_registered_model(self, name: str) -> SimpleNamespace:
        self._require(name)
        raise MlflowException("no such model", RESOURCE_DOES_NOT_EXIST)


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def store(client, folders, tmp_path, monkeypatch) -> Registry:
    """A registry of that client, whose versions are tiny folders."""
    found = Registry.__new__(Registry)
    found.client = Asked(client, "http://me:secret@store")
    monkeypatch.setattr(found, "folder", lambda name, version: folders[name.split(".")[1]], False)
    monkeypatch.setattr(found, "records", lambda name, version: tmp_path, raising=False)
    return found


@pytest.fixture
def source(store, tmp_path, monkeypatch):
    """What the champions of pipeline `tiny` are; every engine that it makes is in `engines`."""
    catalogue = SimpleNamespace(
        pipelines={"tiny": None}, adapters_of=lambda _: ["lora", "ia3"], serving=Serving()
    )
    monkeypatch.setattr(deploying, "load", lambda *_, **__: catalogue)
    monkeypatch.setattr(deploying, "registry", lambda _: store)
    monkeypatch.setattr(deploying, "identity", lambda *_: {"pipeline": "tiny"})
    monkeypatch.setattr(deploying.evidence, "commit", lambda _: "none")
    monkeypatch.setattr(deploying, "SETTLING_SECONDS", 0)
    made, real = [], deploying.engine_of

    def engine_of(*args, **named):
        made.append(real(*args, **named))
        return made[-1]

    monkeypatch.setattr(deploying, "engine_of", engine_of)
    found = deploying.Registered(Path(tmp_path), "tiny", CHAMPION)
    found.engines = made
    yield found
    for engine in made:
        engine.close()


def test_a_registry_that_is_away_is_not_an_empty_one(store, client):
    """An adapter whose alias could not be read was dropped, a template became unknown."""
    assert store.alias("tiny.lora", CHAMPION).version == "1"
    assert store.alias("tiny.nothing", CHAMPION) is None
    assert Releases(store, "tiny").current() is None
    client.away = {"tiny.lora", "tiny.base", "tiny.base/1", "ask"}
    for ask in (
        lambda: store.alias("tiny.lora", CHAMPION),
        lambda: Releases(store, "tiny").current(),
        lambda: store.prompt_versions("ask"),
        lambda: store.versions("tiny.base"),
        lambda: store.client.get_model_version("tiny.base", "1"),
    ):
        said = "MLflow at http://store does not answer: database is locked; .* run the same"
        with pytest.raises(RegistryAway, match=said):
            ask()


def test_an_alias_that_is_none_is_answered_with_those_there_are(source, client, monkeypatch):
    source.alias, client.adapters = "champoin", {}
    known = SimpleNamespace(aliases={"champion": 1, "candidate": 2})
    change = monkeypatch.setattr
    change(
        client, "get_model_version_by_alias", lambda *_: client.get_registered_model("tiny.none")
    )
    with pytest.raises(RegistryError, match="run 'kindling register tiny'"):
        source.pointed()
    change(client, "get_registered_model", lambda name: known)
    change(source.store, "alias", lambda *_: None)
    with pytest.raises(
        RegistryError, match=r"did you mean 'champion'\? known: candidate, champion"
    ):
        source.pointed()


def test_a_version_of_a_store_elsewhere_is_fetched_once(client, tmp_path, monkeypatch):
    """Each look at a moved alias left two more copies in the system's temporary folder."""
    content, fetched = "c" * 64, []
    monkeypatch.setattr(client, "get_model_version_download_uri", lambda *_: "s3://b/1", False)
    about = SimpleNamespace(tags={CONTENT: content})
    monkeypatch.setattr(client, "get_model_version", lambda *_: about)

    def download(place: str, dst_path: str, **_) -> str:
        fetched.append(place)
        (Path(dst_path) / "artifacts" / "model").mkdir(parents=True)
        return dst_path

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", download)
    store = Registry.__new__(Registry)
    store.uri, store.client, store.copies = "http://store", client, tmp_path / "copies"
    found = [store.records("tiny.lora", 1), store.records("tiny.lora", 1)]
    assert len(set(found)) == 1 and len(fetched) == 1
    assert [path.name for path in store.copies.iterdir()] == [f"tiny.lora-1-{content[:16]}"]
    with pytest.raises(RegistryError, match="was altered"):
        store.folder("tiny.lora", 1)
    store.records("tiny.lora", 1)
    assert len(fetched) == 2, "what was not fetched whole is not fetched again"


def test_templates_that_were_read_stay_while_the_registry_is_away(store, client, monkeypatch):
    monkeypatch.setattr("components.serving.templates.FRESH_SECONDS", 0)
    templates = RegistryTemplates(store, ["ask", "other"])
    known = find(templates, "ask", None)
    client.away = {"ask", "other"}
    assert find(templates, "ask", None) == known
    with pytest.raises(RequestError, match="was not read yet") as refused:
        find(templates, "other", None)
    assert refused.value.code == "registry_unavailable"


def test_a_registry_that_hangs_is_asked_by_one_thread_and_waited_for_so_long(
    store, client, monkeypatch
):
    """Every request waited for it, which may take minutes, in a thread of its own."""
    for name, seconds in (("FRESH", 0), ("AGAIN", 0.2), ("FIRST", 0.4)):
        monkeypatch.setattr(f"components.serving.templates.{name}_SECONDS", seconds)
    templates = RegistryTemplates(store, ["ask", "other"])
    known = find(templates, "ask", None)
    client.asked.clear()
    client.go.clear()
    client.wording, begun = "{{text}} so it is", time.monotonic()
    with ThreadPoolExecutor(40) as clients:
        found = list(clients.map(lambda _: find(templates, "ask", None), range(80)))
    assert found == [known] * 80 and client.asked == ["ask"]
    with pytest.raises(RequestError, match="was not read yet"):
        find(templates, "other", None)
    assert time.monotonic() - begun < 30
    client.go.set()
    deadline = time.monotonic() + 30
    while find(templates, "ask", None) == known:
        assert time.monotonic() < deadline, "what the registry says now is never seen"


def test_two_wordings_of_one_prompt_are_two_versions_of_it(tmp_path):
    """Both were version 1, and the last one answered for either."""
    texts = {"a": "{{text}} it was", "b": "{{text}} so it is", "c": "{{text}} it was"}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        prompt = {"prompt": {"name": "ask", "template": text}}
        write_json(tmp_path / name / "adapter.json", prompt)
    templates = FolderTemplates({name: tmp_path / name for name in texts})
    found = [find(templates, "ask", number).text for number in (1, 2)]
    assert found == [texts["a"], texts["b"]] and len(templates.versions("ask")) == 2


def test_what_is_served_stays_while_aliases_cannot_be_read(source, client):
    now = source.deploy(source.pointed())
    client.away = {"tiny.lora"}
    with pytest.raises(RegistryAway):
        source.look(now)
    client.away = set()
    assert source.look(now) is None


def test_a_move_that_fails_is_made_at_the_next_look(source, client, monkeypatch):
    """It was lost for ever, and each failure left an engine in memory."""
    now = source.deploy(source.pointed())
    client.base, real = 2, deploying.identity

    def fails(*_):
        monkeypatch.setattr(deploying, "identity", real)
        raise OSError("git is away")

    monkeypatch.setattr(deploying, "identity", fails)
    with pytest.raises(OSError, match="git is away"):
        source.look(now)
    assert not source.engines[1].batcher._open
    moved = source.look(now)
    assert moved.versions == {"base": 2, "lora": 1, "ia3": 1}
    assert list(moved.models()) == ["base", "lora", "ia3"] and source.look(moved) is None


def test_a_version_that_an_answer_still_uses_may_be_pointed_to_again(source, client, monkeypatch):
    """It was let go of while the deployment that goes back to it was made, and never came back."""
    monkeypatch.setattr(deploying, "warm", lambda *_, **__: None)
    current, answer = Current(source.deploy(source.pointed())), ExitStack()
    watcher = Watcher(current, source.look, seconds=1)
    answer.enter_context(current.used())
    client.adapters = {"lora": 2, "ia3": 2}
    assert watcher.look()
    monkeypatch.setattr(deploying, "warm", lambda *_, **__: answer.close())
    client.adapters = {"lora": 1, "ia3": 1}
    assert watcher.look()
    assert list(current.now.models()) == ["base", "lora", "ia3"]
    assert list(current.now.engine.models()) == ["base", "lora@1", "ia3@1"]


def test_an_adapter_that_could_not_be_had_is_tried_again(source, client, store, monkeypatch):
    """And keeps no other from being served; one that is refused for good is left alone."""
    now = source.deploy(source.pointed())
    client.adapters = {"lora": 2, "ia3": 2}
    client.away, real = {"tiny.lora/2"}, store.folder

    def altered(name: str, version: int) -> Path:
        if name == "tiny.ia3":
            raise RegistryError("tiny.ia3 version 2 was altered")
        return real(name, version)

    monkeypatch.setattr(store, "folder", altered)
    now = source.look(now)
    assert "does not answer: database is locked" in now.refused["lora"]
    assert now.refused["ia3"] == "tiny.ia3 version 2 was altered"
    assert source.look(now) is None  # as before
    client.away = set()
    now = source.look(now)
    assert list(now.models()) == ["base", "lora"] and list(now.refused) == ["ia3"]
    monkeypatch.setattr(store, "folder", lambda *_: pytest.fail("it was refused for good"))
    assert source.look(now) is None


def test_an_adapter_of_another_base_is_unavailable_and_says_why(source, client):
    """It vanished: 404, as if there had never been one of its name."""
    client.bases = {"ia3": 7}
    now = source.deploy(source.pointed())
    assert list(now.models()) == ["base", "lora"] and now.versions == {"base": 1, "lora": 1}
    with pytest.raises(RequestError, match="version 1 was trained on version 7 of the base") as no:
        now.known("ia3")
    assert no.value.code == "model_unavailable"
    assert source.look(now) is None
    client.bases = {}
    assert list(source.look(now).models()) == ["base", "lora", "ia3"]


def test_an_adapter_that_no_library_can_read_keeps_no_other_from_being_served(
    source, client, monkeypatch
):
    now = source.deploy(source.pointed())
    client.adapters, real = {"lora": 2, "ia3": 2}, now.engine.add

    def add(name, *args):
        if name.startswith("lora"):
            raise ArithmeticError("what no one thought of")
        real(name, *args)

    monkeypatch.setattr(now.engine, "add", add)
    found = source.look(now)
    assert list(found.models()) == ["base", "ia3"] and found.engine is now.engine
    assert found.unavailable() == {"lora": "what no one thought of"}
