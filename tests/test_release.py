"""Registering, judging, promoting and rolling back, on a store of its own, without any training."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from components.adapters import load_adapter
from components.evaluation import evaluate_adapter
from components.evaluation.classification import classify
from components.lineage import read_json, write_json
from components.locks import Held
from components.promotion import Releases
from components.prompts import Prompt
from components.registry import CANDIDATE, CHAMPION, DECISION, Registry, RegistryError
from components.releases import Release, rolled_back
from components.reporter import Silent
from components.serving.engine import RequestError
from components.serving.keys import Keys
from components.serving.server import create_app
from components.tasks import Task, build_task
from flows import pipeline, serving, shelves, trace, tracking
from flows import registry as registering
from flows import release as releasing
from flows.registry import registry, workspace_name
from flows.release import release
from tests.conftest import ROOT, give_store, isolate
from tests.test_gate import evaluation
from tests.tiny_models import ADAPTERS, signed

pytestmark = pytest.mark.slow  # MLflow makes versions
CATALOGUE = """\
root: {root}
compute: {{threads: 2, jobs: 1}}
datasets:
  data: {{path: data.jsonl, format: jsonl, text: text, label: label, labels: {{g: good, b: bad}}}}
  tales: {{path: tales.txt, format: text}}
prompts:
  ask: {{template: "{{{{text}}}} it was", answer: {{good: " good", bad: " bad"}}}}
pipelines:
  tiny:
    corpus: tales
    tokenizer: {{vocab_size: 300}}
    model: {{layers: 2, width: 32, heads: 2, context: 96}}
    pretrain: {{tokens: 20480, batch_tokens: 480, learning_rate: 0.01}}
tasks:
  taste: {{dataset: data, kind: classification, prompt: ask}}
adapters:
  zero_shot: {{pipeline: tiny, task: taste, method: prompt, shots: 2}}
  lora: {{pipeline: tiny, task: taste, method: lora, rank: 2, steps: 8}}
gates:
  taste: {{minimum: 0.55, baseline: zero_shot}}
"""


def place_adapter(
    workspace: Path, name: str, source: Path, score: float, note: str = "", template: str = ""
) -> None:
    """Put an adapter of that score among the artifacts.

    note: makes it another version. template: as if it had been made with another prompt.
    """
    top = workspace / "artifacts" / "tiny"
    adapter, judged = top / "adapters" / name, top / "evaluations" / name
    for folder in (adapter, judged):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, adapter)
    described = read_json(adapter / "adapter.json") | {"note": note}
    if template:
        described["prompt"]["template"] = template
    write_json(adapter / "adapter.json", described)
    signed(adapter)
    signed(evaluation(judged, score))


def place_base(workspace: Path, note: str) -> None:
    """Another base; the adapters there stay, as nothing looks into them."""
    base = workspace / "artifacts" / "tiny" / "base"
    (base / "note.txt").write_text(note, encoding="utf-8")
    signed(base)


def register(workspace: Path) -> dict[str, Any]:
    return release(workspace, "tiny", None, lambda _: None)


def decision_on_record(workspace: Path, version: int) -> dict[str, Any]:
    """Of a version of `lora`, as its tag and as MLflow's newest artifact say, which must agree."""
    store = registry(workspace)
    told = json.loads(store.client.get_model_version("tiny.lora", str(version)).tags[DECISION])
    newest = runs(workspace)[0]
    path = store.client.download_artifacts(newest.info.run_id, "decisions/lora.json")
    assert read_json(Path(path)) == told
    return told


def releases(workspace: Path) -> Releases:
    return Releases(registry(workspace), "tiny")


def runs(workspace: Path) -> list[Any]:
    """MLflow's runs, the newest first."""
    client = registry(workspace).client
    return client.search_runs([client.get_experiment_by_name("tiny").experiment_id])


@pytest.fixture(scope="module")
def first(folders, tmp_path_factory):
    """A workspace as after a bare `dvc repro` and the first registration, and what that said."""
    workspace = tmp_path_factory.mktemp("release") / "workspace"
    workspace.mkdir()
    (workspace / "pipelines.yaml").write_text(CATALOGUE.format(root=ROOT), encoding="utf-8")
    for name in ("data.jsonl", "tales.txt"):
        (workspace / name).touch()
    artifacts = workspace / "artifacts"
    shutil.copytree(folders["base"], artifacts / "tiny" / "base")
    shutil.copytree(folders["taste"], artifacts / "tasks" / "taste")
    place_adapter(workspace, "zero_shot", folders["zero_shot"], 0.5)
    place_adapter(workspace, "lora", folders["lora"], 0.7)
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, give_store(workspace))
        yield workspace, register(workspace)


@pytest.fixture
def workspace(first, tmp_path, monkeypatch):
    """A clone of the first, under another name, with a copy of its store."""
    folder = tmp_path / "clone"
    shutil.copytree(first[0], folder, ignore=shutil.ignore_patterns("mlruns"))
    isolate(monkeypatch, folder)
    return folder


NEW = ["tiny.base version 1", "prompt ask version 1", "tiny.zero_shot version 1"]


def test_what_a_bare_dvc_repro_left_is_registered_and_judged(first):
    where, told = first
    assert told["registered"] == [*NEW, "tiny.lora version 1"] and told["release"] == 1
    kept = decision_on_record(where, 1)
    assert kept == told["decisions"]["lora"] and kept["promoted"]
    assert kept["differences"]["zero_shot"][0] == pytest.approx(0.2)
    listed = shelves.listing(where)
    assert listed["models"]["tiny.lora"][0]["aliases"] == [CANDIDATE, CHAMPION]
    assert listed["models"]["tiny.zero_shot"][0]["aliases"] == [CANDIDATE]
    assert listed["prompts"]["ask"] == [{"version": 1, "aliases": [CANDIDATE, CHAMPION]}]
    assert "prompt ask/1 [candidate, champion]" in shelves.text(listed)


def test_a_second_time_registers_nothing_in_a_clone_of_any_name(workspace):
    """The folder's name once was the workspace's: a clone could not register."""
    before = len(runs(workspace))
    told = register(workspace)
    assert (told["registered"], told["release"]) == ([], 1)
    assert told["decisions"]["lora"]["summary"] == "champion"
    assert len(runs(workspace)) == before


def test_a_wiped_registry_is_refilled(workspace):
    client = registry(workspace).client
    for name in ("tiny.base", "tiny.zero_shot", "tiny.lora"):
        client.delete_registered_model(name)
    client.delete_prompt("ask")
    told = register(workspace)
    assert told["registered"] == [*NEW, "tiny.lora version 1"] and told["release"] == 1


def test_nobody_promotes_or_rolls_back_while_another_releases(workspace, folders, monkeypatch):
    """What `release` had read was once no longer true when it promoted: a rollback was undone."""
    place_adapter(workspace, "lora", folders["lora"], 0.9, "two")
    assert register(workspace)["release"] == 2
    monkeypatch.setattr(registering, "PATIENCE", 0.0)
    with registering.alone(workspace):
        with pytest.raises(Held, match="registry is held by"):
            shelves.rollback(workspace, "tiny", None)
        with pytest.raises(Held, match="registry is held by"):
            shelves.promote(workspace, "tiny.lora", 2, "in a hurry")
    assert shelves.rollback(workspace, "tiny", None)[0] == 1


def test_a_rollback_stays_until_somebody_promotes_by_hand(workspace, folders):
    """The next run once found the version's decision, `promoted`, and released it anew."""
    place_adapter(workspace, "lora", folders["lora"], 0.9, "two")
    assert register(workspace)["release"] == 2
    known = releases(workspace)
    assert known.rollback()[0] == 1
    told = register(workspace)
    said = told["decisions"]["lora"]["summary"]
    assert told["release"] == 1 and not told["decisions"]["lora"]["promoted"]
    assert "with release 2" in said and "promote tiny.lora 2 --reason" in said
    assert decision_on_record(workspace, 2) == told["decisions"]["lora"]
    before = len(runs(workspace))
    assert register(workspace) == told and len(runs(workspace)) == before

    assert "release 3 is current" in shelves.promote(workspace, "tiny.lora", 2, "seen to be fine")
    assert register(workspace)["decisions"]["lora"]["summary"] == "champion"
    listed = shelves.listing(workspace)["models"]["tiny.lora"]
    assert listed[1]["decision"] == "promoted by hand: seen to be fine"
    assert known.rollback()[0] == 1  # which 3 followed; 2 is out
    with pytest.raises(RegistryError, match=r"no release before .* has 1, 2, 3 .*registry list"):
        known.rollback()


def test_a_superseded_version_is_judged_as_any_candidate(workspace, folders):
    """Settings A, then B, then A again: nobody decided against A."""
    place_adapter(workspace, "lora", folders["lora"], 0.8, "two")
    assert register(workspace)["release"] == 2
    place_adapter(workspace, "lora", folders["lora"], 0.7)
    told = register(workspace)
    assert told["release"] == 2
    assert "not better than the champion" in told["decisions"]["lora"]["summary"]
    place_adapter(workspace, "lora", folders["lora"], 0.9)  # a new metric likes it
    told = register(workspace)
    assert told["release"] == 3 and releases(workspace).current()[1].adapters == {"lora": 1}
    assert set(told["decisions"]["lora"]["differences"]) == {"zero_shot", "champion"}


def test_a_release_with_another_base_is_rolled_back_and_forth(workspace, folders):
    place_base(workspace, "two")
    place_adapter(workspace, "lora", folders["lora"], 0.9, "on base two")
    assert register(workspace)["release"] == 2
    known = releases(workspace)
    known.rollback()
    assert (
        "'kindling registry rollback tiny 2'" in register(workspace)["decisions"]["lora"]["summary"]
    )
    assert known.current()[1].base == 1
    known.rollback(2)
    told = register(workspace)
    assert told["release"] == 2 and told["decisions"]["lora"]["summary"] == "champion"
    assert decision_on_record(workspace, 2)["promoted"]


def test_what_is_held_back_is_on_record_until_it_is_released(workspace, folders):
    """The tag and the artifact once went on saying `promoted`."""
    shelves.promote(workspace, "tiny.zero_shot", 1, "a companion that never follows")
    place_base(workspace, "two")
    place_adapter(workspace, "lora", folders["lora"], 0.9, "on base two")
    told = register(workspace)
    held = decision_on_record(workspace, 2)
    assert held == told["decisions"]["lora"] and told["release"] == 2
    assert held["summary"] == "held back: zero_shot of release 2 lack a fit on base 2"
    assert not held["promoted"] and held["differences"]["champion"][1] > 0
    before = len(runs(workspace))
    assert register(workspace)["decisions"] == told["decisions"]
    assert len(runs(workspace)) == before
    with pytest.raises(RegistryError, match="on base 2, and zero_shot of release 2 lack a fit"):
        shelves.promote(workspace, "tiny.lora", 2, "in a hurry")

    releases(workspace).rollback()  # without the companion
    assert register(workspace)["release"] == 3
    assert decision_on_record(workspace, 2)["summary"].startswith("promoted: accuracy 0.900")
    assert releases(workspace).current()[1].base == 2


def test_a_prompt_with_another_text_is_another_version(workspace, folders):
    place_adapter(workspace, "lora", folders["lora"], 0.9, template="{{text}} It was")
    assert register(workspace)["registered"] == ["prompt ask version 2", "tiny.lora version 2"]
    store, known = registry(workspace), releases(workspace)
    assert [set(p.aliases) for p in store.prompt_versions("ask")] == [set(), {CANDIDATE, CHAMPION}]
    assert known.current()[1].prompts == {"ask": 2}
    known.rollback()
    assert [p.aliases for p in store.prompt_versions("ask")] == [[CHAMPION], [CANDIDATE]]


def test_a_change_of_wording_has_to_beat_the_champion(workspace, folders):
    """As any candidate: nothing but the template is new, and no better."""
    place_adapter(workspace, "lora", folders["lora"], 0.7, template="{{text}} It was")
    told = register(workspace)["decisions"]["lora"]
    assert not told["promoted"] and told["differences"]["champion"] == [0, 0, 0]
    assert "not better than the champion: +0.000 [0.000, 0.000]" in told["summary"]
    store = registry(workspace)
    assert Releases(store, "tiny").current()[1].prompts == {"ask": 1}
    assert [set(p.aliases) for p in store.prompt_versions("ask")] == [{CHAMPION}, {CANDIDATE}]


def test_what_is_not_registered_is_told_from_a_registry_that_is_away(workspace):
    """By the codes that MLflow's own store gives; `test_deploying` has the other half."""
    store = registry(workspace)
    assert store.alias("tiny.nothing", CHAMPION) is None
    assert store.alias("tiny.base", "nobody") is None
    assert store.prompt_versions("nothing") == []
    nothing = Releases(store, "nothing")
    assert nothing.current() is None and nothing.all() == {}


def test_a_name_belongs_to_one_workspace(workspace, monkeypatch):
    monkeypatch.setattr("flows.registry.workspace_name", lambda _: "recipes/other")
    said = r"'tiny.base' is registered by workspace 'root', .* 'recipes/other'; rename the pipeline"
    with pytest.raises(RegistryError, match=said):
        register(workspace)
    with pytest.raises(RegistryError, match=r"prompt 'ask' is registered by .*; rename the prompt"):
        registry(workspace).register_prompt("ask", {"template": "{{text}}", "answer": {}})


class Begun(Exception):
    """The flow has come to its work."""


def test_a_flow_refuses_anothers_name_before_it_works(workspace, monkeypatch):
    """It was found out at the end, when hours had been spent."""

    def begin(*_):
        raise Begun

    def run():
        with disable_run_logger():
            pipeline.pipeline.fn("tiny", str(workspace))

    monkeypatch.setattr("flows.pipeline._waiting", begin)
    monkeypatch.setattr("flows.leash.tie_server", lambda: None)
    with pytest.raises(Begun):
        run()
    monkeypatch.setattr("flows.registry.workspace_name", lambda _: "recipes/other")
    with pytest.raises(RegistryError, match="rename the pipeline"):
        run()
    names = registry(workspace)
    names.require_own(["tiny.new"], ["new"])
    with pytest.raises(RegistryError, match="rename the prompt"):
        names.require_own(["tiny.new"], ["new", "ask"])


@pytest.mark.parametrize("kind", ["base", "adapters/lora", "evaluations/lora"])
def test_what_was_altered_is_not_registered(workspace, folders, kind):
    """It was, under the content that the stage had made, and no later registration mended it."""
    place_base(workspace, "another")
    place_adapter(workspace, "lora", folders["lora"], 0.9, "another")
    (workspace / "artifacts" / "tiny" / kind / "metrics.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RegistryError, match=rf"{kind} was altered.*'dvc checkout --force'"):
        register(workspace)


def test_why_a_release_was_left_is_kept_with_it(workspace, folders):
    place_adapter(workspace, "lora", folders["lora"], 0.95, "another")
    register(workspace)
    left, _ = releases(workspace).current()
    shelves.rollback(workspace, "tiny", None, "it swears")
    shelves.rollback(workspace, "tiny", left)
    shelves.rollback(workspace, "tiny", None, "it still does")
    assert releases(workspace).left(left) == ["it swears", "it still does"]
    told = shelves.listing(workspace)
    assert "rolled back: it swears; rolled back: it still does" in shelves.text(told)


def test_nobody_moves_what_another_workspace_registered(workspace, monkeypatch):
    """Its release lost the adapters that only the other one's catalogue has."""
    before = releases(workspace).current()
    monkeypatch.setattr("flows.registry.workspace_name", lambda _: "recipes/other")
    with pytest.raises(RegistryError, match="registered by workspace 'root'"):
        shelves.promote(workspace, "tiny.lora", 1, "why not")
    with pytest.raises(RegistryError, match="registered by workspace 'root'"):
        shelves.rollback(workspace, "tiny", None)
    assert releases(workspace).current() == before


def test_a_run_that_registering_opens_again_is_found_if_that_is_killed(workspace):
    """A flow killed there left its run as RUNNING for ever."""
    run_id = tracking.start_parent(workspace, "tiny", {})
    tracking.end_parent(workspace, tracking.client(workspace), run_id, "FINISHED")
    note = tracking.run_note(workspace, run_id)
    with releasing._Run(workspace, "tiny", run_id) as run:
        assert not note.exists() and run.enter() == run_id
        assert note.is_file()
    assert not note.exists()


def test_two_registries_in_one_process_do_not_meet(workspace, folders, tmp_path):
    """The newer one once took the prompts of the older, which then found no file of its own."""
    ours = registry(workspace)
    other = Registry(f"sqlite:///{tmp_path / 'other.db'}", "other")
    ours.register_prompt("mine", {"template": "{{text}}", "answer": {}})
    assert len(ours.prompt_versions("mine")) == 1 and other.prompt_versions("mine") == []
    assert ours.folder("tiny.base", 1).is_dir()
    where = other.client.create_experiment("tiny", artifact_location=str(tmp_path / "runs"))

    def run() -> str:
        return other.client.create_run(where).info.run_id

    assert other.register_base("tiny", folders["base"], run) == (1, True)
    assert other.folder("tiny.base", 1).is_relative_to(tmp_path / "runs")
    assert len(ours.versions("tiny.base")) == 1 and ours.folder("tiny.base", 1).is_dir()


def test_a_workspace_is_called_by_its_place_in_the_repository(tmp_path):
    clone = tmp_path / "clone"
    below = clone / "recipes" / "books"
    below.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(clone)], check=True)
    assert [workspace_name(folder) for folder in (clone, below)] == ["root", "recipes/books"]


@pytest.fixture
def served(workspace, folders):
    """A client of the server of champions, of which the newest prompt is none."""
    from fastapi.testclient import TestClient

    place_adapter(workspace, "lora", folders["lora"], 0.9, template="{{text}} It was")
    register(workspace)
    releases(workspace).rollback()
    keys = Keys(workspace / "keys.json")
    gateway, outlook, _ = serving.assemble(workspace, "tiny", CHAMPION, None, [], keys)
    return TestClient(create_app(gateway, outlook), "http://localhost")


def test_a_served_template_is_found_by_alias(served, workspace):
    """Aliases once did not reach the server: 404, and the newest version without any."""
    assert served.get("/health").json()["models"] == ["base", "lora"]

    def ask(version: int | str | None) -> tuple[int, str]:
        call = {"id": "ask", "version": version, "variables": {"text": "fine"}}
        body = {"model": "lora", "max_tokens": 1, "temperature": 0, "template": call}
        told = served.post("/v1/completions", json=body).json()
        return told["template"]["version"], told["system_fingerprint"]

    answers = {version: ask(version) for version in (CHAMPION, None, CANDIDATE, 2)}
    assert [version for version, _ in answers.values()] == [1, 1, 2, 2]
    releases(workspace).rollback(2)
    served.app.state.gateway.templates._read.clear()  # as after two seconds
    assert ask(CHAMPION) == ask(2) == answers[2]  # the alias moved, the fingerprint did not


def test_a_moved_alias_is_deployed_and_a_damaged_version_is_refused(workspace, folders):
    place_adapter(workspace, "lora", folders["lora"], 0.9, template="{{text}} It was")
    register(workspace)
    store, known = registry(workspace), releases(workspace)
    known.rollback()
    keys = Keys(workspace / "keys.json")
    gateway, _, watcher = serving.assemble(workspace, "tiny", CHAMPION, None, [], keys)
    first = gateway.current.now
    assert first.versions == {"base": 1, "lora": 1} and not watcher.look()
    assert first.scores["lora"].keys() >= {"metric", "score"}
    known.rollback(2)
    assert watcher.look() and not watcher.look()
    now = gateway.current.now
    assert now.versions == {"base": 1, "lora": 2} and now.engine is first.engine
    assert list(now.engine.models()) == ["base", "lora@2"]
    damaged = store.folder("tiny.lora", 1) / "adapter.json"
    whole = damaged.read_text(encoding="utf-8")
    try:
        damaged.write_text(whole + " ", encoding="utf-8")
        known.rollback(1)
        assert watcher.look()
    finally:
        damaged.write_text(whole, encoding="utf-8")  # every clone of the store shares its folders
    assert "was altered" in gateway.current.now.unavailable()["lora"]
    with pytest.raises(RequestError, match=r"'lora' is unavailable: .* was altered"):
        gateway.current.now.known("lora")
    first.engine.close()


def test_trace_names_the_prompt_version_that_classified(served, workspace):
    told = served.post("/v1/classify", json={"model": "lora", "input": "fine"}).json()
    record = trace.explain(workspace, told["id"])["record"]
    assert record["adapter"]["prompt"]["version"] == record["adapter"]["version"] == 1
    assert record["versions"] == {"base": 1, "lora": 1} and record["workspace"] == "root"


def test_every_method_is_registered_and_answers_as_pyfunc(workspace, folders, tmp_path):
    """From the store alone: the base by version, the adapter by its own bytes."""
    import mlflow

    store, texts = registry(workspace), ["the film was a .", "the plot was b ."]
    judged = signed(evaluation(tmp_path / "judged", 0.5))
    run = runs(workspace)[0].info.run_id
    for name in ADAPTERS:
        store.register_adapter("tiny", f"{name}_new", folders[name], judged, 1, {}, lambda: run)
    for name in ADAPTERS:
        found = mlflow.pyfunc.load_model(f"models:/tiny.{name}_new/1").predict(texts)
        model = load_adapter(folders["base"], folders[name])
        expected = classify(model, folders["base"], folders[name], texts)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5), name


def judge(workspace: Path, name: str) -> Path:
    """Judge an adapter among the artifacts on the task that is there."""
    top = workspace / "artifacts"
    judged, task = top / "tiny" / "evaluations" / name, top / "tasks" / "taste"
    adapter, base = top / "tiny" / "adapters" / name, top / "tiny" / "base"
    evaluate_adapter(adapter, task, base, judged, Silent())
    return signed(judged)


def test_a_champion_is_judged_again_where_the_examples_changed(workspace, folders):
    """The same weights as the champion: on the same new examples the difference is none at all."""
    place_adapter(workspace, "lora", folders["lora"], 0.9, "two")
    for name in ("zero_shot", "lora"):
        judged = judge(workspace, name)
    told = register(workspace)["decisions"]["lora"]
    assert told["differences"]["champion"] == [0, 0, 0] and not told["promoted"]
    (again,) = (workspace / ".kindling" / "rejudged").iterdir()
    keys = {read_json(place / "metrics.json")["comparison_key"] for place in (again, judged)}
    assert len(keys) == 1 and again.name.startswith("tiny.lora-1-")


def test_a_champion_judged_again_keeps_its_wording(workspace, folders):
    """It once was asked in the candidate's, in which it never served."""
    prompt = Prompt(template="{{text}} Verdict:", answer={"good": " good", "bad": " bad"})
    task = workspace / "artifacts" / "tasks" / "taste"
    block = Task(dataset="data", kind="classification", prompt="ask", max_eval=20)
    build_task(block, "taste", prompt, "ask", folders["data"], task, Silent())
    place_adapter(workspace, "lora", folders["lora"], 0.9, "two", template=prompt.template)
    for name in ("zero_shot", "lora"):
        judged = judge(workspace, name)
    register(workspace)
    (again,) = (workspace / ".kindling" / "rejudged").iterdir()
    for place, ending in ((again, " it was"), (judged, " Verdict:")):
        prompts = [golden["prompt"] for golden in read_json(place / "golden.json")["prompts"]]
        assert prompts and all(prompt.endswith(ending) for prompt in prompts)


def test_a_champion_is_judged_again_where_answers_may_be_longer(workspace, folders):
    """The comparison key leaves that out, for two wordings may need different lengths."""
    place_adapter(workspace, "lora", folders["lora"], 0.9, "two")
    for name in ("zero_shot", "lora"):
        judged = judge(workspace, name)
    assert register(workspace)["decisions"]["lora"]["differences"]["champion"] == [0, 0, 0]
    figures = read_json(judged / "metrics.json")
    longer = {"decoding": figures["decoding"] | {"max_new_tokens": 64}}
    write_json(judged / "metrics.json", figures | longer)
    signed(judged)
    register(workspace)
    assert len(list((workspace / ".kindling" / "rejudged").iterdir())) == 2


# releases by number: (version of lora, the release it followed)
@pytest.mark.parametrize(
    ("history", "current", "left", "version", "rolled"),
    [
        ([(1, 0), (2, 1)], 2, set(), 1, None),  # superseded
        ([(1, 0), (2, 1)], 1, {1, 2}, 2, 2),  # rolled back
        ([(1, 0), (2, 1)], 1, {1, 2}, 1, None),  # serves
        ([(1, 0), (2, 1), (3, 1)], 3, {1, 2}, 2, 2),  # rolled back, whatever came since
        ([(1, 0), (2, 1), (3, 1)], 3, {1, 2}, 1, None),  # superseded in line
        ([(1, 0), (2, 1), (2, 1), (3, 3)], 4, {1, 2}, 2, None),  # brought back, then superseded
        ([(1, 0), (2, 1), (1, 2)], 2, {1, 2, 3}, 1, 3),  # superseded, came again, rolled back
        ([(1, 0), (2, 1)], 2, {1, 2}, 1, None),  # back and forth
        ([(1, 0), (2, 1)], 1, set(), 2, None),  # killed before it became current
        ([], 0, set(), 1, None),
    ],
)
def test_rolled_back_or_superseded(history, current, left, version, rolled):
    known = {
        number: Release(base=1, adapters={"lora": held}, follows=before)
        for number, (held, before) in enumerate(history, 1)
    }
    assert rolled_back(known, current, left, "lora", version) == rolled
