"""The whole pipeline at tiny size: through Prefect, through DVC, twice, and after changes."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path

import httpx
import pytest

from components.catalogue import edit, load
from components.lineage import content_of, read_json, write_json
from flows import evidence, graph, tracking
from flows.places import places
from tests.conftest import ROOT, asked, isolate, keep_one_adapter, make_workspace, new_workspace

pytestmark = pytest.mark.slow
KINDLING = [sys.executable, "-m", "flows.cli"]
DVC = [sys.executable, "-m", "dvc"]
BEHIND = (  # the adapter `lora`
    *(f"artifacts/quickstart/{part}" for part in ("adapters/lora", "base", "tokenizer", "corpus")),
    *("artifacts/tasks/sentiment", "artifacts/datasets/reviews", "artifacts/datasets/tales"),
)


def call(workspace: Path, *command: str, code: int = 0) -> str:
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def kindling(workspace: Path, *arguments: str, code: int = 0) -> str:
    return call(workspace, *KINDLING, *arguments, code=code)


@pytest.fixture(scope="module")
def ran(tmp_path_factory, prefect_server):
    """A workspace that holds the code as well, as the repository's own does, after `kindling run
    quickstart`, with a Prefect server of its own; and what that printed.
    """
    folder = new_workspace(tmp_path_factory.mktemp("pipeline") / "workspace")
    for name in ("components", "flows"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    catalogue = folder / "pipelines.yaml"
    catalogue.write_text(catalogue.read_text().replace(f"root: {ROOT}", "root: ."))
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        printed = kindling(folder, "run", "quickstart")
        patch.setenv("PREFECT_API_URL", prefect_server)
        yield folder, printed


def contents(workspace: Path) -> dict[str, str]:
    artifacts = workspace / "artifacts"
    return {
        p.parent.relative_to(artifacts).as_posix(): content_of(p.parent)
        for p in sorted(artifacts.rglob("lineage.json"))
    }


def test_the_summary_tells_stages_scores_and_decisions(ran):
    folder, printed = ran
    for said in ("base@quickstart", "soft_prompt", "the baseline", "kindling serve quickstart"):
        assert said in printed
    assert (folder / "artifacts/quickstart/report/index.html").stat().st_size > 10_000


def test_dvc_has_nothing_left_to_do(ran):
    """DVC 3.67 loses params of a file named `./x`, which `root: .` gives: stages stayed stale."""
    assert "Data and pipelines are up to date" in call(ran[0], *DVC, "repro")


def test_a_second_run_starts_no_stage_and_registers_nothing(ran):
    printed = kindling(ran[0], "run", "quickstart")
    assert "Running stage" not in printed
    assert "registered " not in printed


def test_bare_dvc_does_the_same_work(ran, tmp_path, monkeypatch):
    """The same bytes everywhere, a parent run with figures, and a registry that can follow."""
    folder = make_workspace(tmp_path / "workspace")
    keep_one_adapter(folder, "lora")
    isolate(monkeypatch, folder)
    call(folder, *DVC, "repro", "-q")
    catalogue, made = load(folder), contents(folder)
    assert set(made) == {places(catalogue, s)[0] for s in catalogue.stages_of("quickstart")}
    del made["quickstart/report"]  # which shows more adapters there
    assert made.items() <= contents(ran[0]).items()
    mlflow = tracking.client(folder)
    where = mlflow.get_experiment_by_name("quickstart").experiment_id
    parents = mlflow.search_runs([where], "tags.`kindling.started_by` = 'dvc repro'")
    assert [run.info.status for run in parents] == ["FINISHED"]
    assert {"lora.score", "base.bits_per_byte"} <= set(parents[0].data.metrics)
    assert "registered quickstart.lora version 1" in kindling(folder, "register", "quickstart")
    assert graph.stale(folder) == {}


def test_saved_folders_open_in_transformers_and_peft(ran):
    """The golden logits were written by our own loading; another library must agree."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = ran[0] / "artifacts" / "quickstart"
    for name in ("lora", "soft_prompt", "full"):
        if name == "full":
            model = AutoModelForCausalLM.from_pretrained(place / "adapters" / name)
        else:
            base = AutoModelForCausalLM.from_pretrained(place / "base")
            model = PeftModel.from_pretrained(base, place / "adapters" / name)
        for golden in read_json(place / "evaluations" / name / "golden.json")["prompts"]:
            ids = torch.tensor([golden["token_ids"]])
            with torch.no_grad():
                logits = model.eval()(input_ids=ids).logits[0, -1]
            for token, value in golden["logits"].items():
                assert logits[int(token)].item() == pytest.approx(value, abs=2e-3)
    tokenizer = AutoTokenizer.from_pretrained(place / "base")
    text = "The plot of film 3 is good."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_mlflow_holds_parent_children_plots_and_data(ran):
    mlflow = tracking.client(ran[0])
    experiment = mlflow.get_experiment_by_name("quickstart")
    runs = mlflow.search_runs([experiment.experiment_id], max_results=200)
    assert {run.info.status for run in runs} == {"FINISHED"}
    base = next(r for r in runs if r.data.tags.get("kindling.stage") == "base@quickstart")
    parent = mlflow.get_run(base.data.tags["mlflow.parentRunId"])
    assert parent.data.tags["kindling.started_by"] == "flow"
    assert "soft_prompt.score" in parent.data.metrics
    assert base.data.params["pretrain.learning_rate"] == "0.01"
    assert mlflow.get_metric_history(base.info.run_id, "loss")[-1].step == 20480
    plots = {f.path for f in mlflow.list_artifacts(base.info.run_id, "plots")}
    assert "plots/loss.png" in plots
    assert parent.data.params["lora.rank"] == "2" and parent.data.params["tokenizer.vocab_size"]
    used = {e.dataset.name: e.dataset.digest for e in base.inputs.dataset_inputs}
    assert used == {
        "datasets/tales": graph.locked_hashes(ran[0])["artifacts/datasets/tales"],
        "data/tales.txt": md5((ran[0] / "data" / "tales.txt").read_bytes()).hexdigest(),
    }


def test_the_registry_lists_and_a_registered_adapter_predicts(ran, tmp_path):
    """In a process of its own that knows nothing but the store."""
    listed = json.loads(asked(ran[0], "registry", "list", "--json"))
    assert {"quickstart.base", "quickstart.lora"} <= set(listed["models"])
    assert [entry["version"] for entry in listed["prompts"]["sentiment"]] == [1]
    code = (
        "import json, mlflow;"
        "model = mlflow.pyfunc.load_model('models:/quickstart.lora@candidate');"
        "print(json.dumps(model.predict(['The plot of film 3 is good and warm.'])))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert set(told[0]) == {"positive", "negative"}
    assert sum(told[0].values()) == pytest.approx(1)


def test_promotion_by_hand_and_rollback(ran):
    asked(ran[0], "registry", "promote", "quickstart.lora", "1", "--reason", "a test")
    listed = json.loads(asked(ran[0], "registry", "list", "--json"))
    number = listed["releases"]["quickstart"]["current"]
    assert listed["releases"]["quickstart"]["all"][str(number)]["adapters"]["lora"] == 1
    said = kindling(ran[0], "registry", "promote", "quickstart.lora", "9", "--reason", "x", code=1)
    assert "has no version 9; it has 1" in said
    asked(ran[0], "registry", "promote", "quickstart.full", "1", "--reason", "a test")
    assert f"release {number} is current" in asked(ran[0], "registry", "rollback", "quickstart")


@contextmanager
def serving(workspace: Path, pipeline: str) -> Iterator[str]:
    """The address of a `kindling serve` of the champions, in a process of its own."""
    command = [*KINDLING, "serve", pipeline, "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    server = subprocess.Popen(command, cwd=workspace, **pipes)
    said = []
    try:
        for line in server.stdout:
            said.append(line)
            if line.startswith("serving "):
                break
        assert said and said[-1].startswith("serving "), "".join(said)
        yield said[-1].split(" on ")[1].strip()
    finally:
        server.kill()
        server.wait(20)


def test_answers_of_the_champions_are_traced_to_their_data(ran, monkeypatch, capsys):
    """The README's example as it stands, and labels with probabilities; then `kindling trace`."""
    monkeypatch.setenv("OPENAI_LOG", "")
    asked(ran[0], "registry", "promote", "quickstart.lora", "1", "--reason", "to be served")
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert "http://127.0.0.1:8000" in example
    with serving(ran[0], "quickstart") as address:
        here = {}
        exec(example.replace("http://127.0.0.1:8000", address), here)
        text = {"model": "lora", "input": "The plot of film 3 is good and warm."}
        labelled = httpx.post(f"{address}/v1/classify", json=text, timeout=60).json()
    answer = here["answer"]
    assert f"{answer.choices[0].text} {answer.id}\n" in capsys.readouterr().out
    probabilities = labelled["results"][0]["probabilities"]
    assert set(probabilities) == {"positive", "negative"}
    assert sum(probabilities.values()) == pytest.approx(1)
    made = {path: content_of(ran[0] / path) for path in BEHIND}
    for identity in (answer.id, labelled["id"]):
        told = json.loads(asked(ran[0], "trace", identity, "--json"))
        adapter = told["record"]["adapter"]
        assert told["kind"] == "answer" and (adapter["name"], adapter["version"]) == ("lora", 1)
        assert adapter["prompt"]["version"] == 1
        chain = {entry["artifact"]: entry for entry in told["chain"]}
        assert {path: chain[path]["content"] for path in BEHIND} == made
        assert set(chain["artifacts/datasets/reviews"]["data"]) == {"data/reviews.jsonl"}


def test_trace_leads_from_an_adapter_to_the_data(ran):
    told = json.loads(asked(ran[0], "trace", "quickstart.lora/1", "--json"))
    behind = {entry["artifact"] for entry in told["chain"]}
    assert {"artifacts/quickstart/base", "artifacts/datasets/tales"} <= behind
    assert all(entry["runs"] for entry in told["chain"])
    said = asked(ran[0], "trace", "artifacts/quickstart/adapters/lora")
    assert "artifacts/datasets/reviews" in said
    raw = md5((ran[0] / "data" / "reviews.jsonl").read_bytes()).hexdigest()
    assert f"data/reviews.jsonl {raw}" in said, "the data's own version is not told"
    assert "nothing is known of 'lorra'" in kindling(ran[0], "trace", "lorra", code=1)


def test_trace_says_what_a_change_would_rebuild(ran):
    said = asked(ran[0], "trace", "--changed", "data/reviews.jsonl")
    assert "adapter@lora" in said and "base@quickstart" not in said
    assert "dvc.yaml" not in said, "stages by name, from whichever folder one asks"


def test_status_doctor_compare_and_clean(ran):
    assert "0 not" in asked(ran[0], "status")
    assert "FAIL" not in asked(ran[0], "doctor")
    assert "over zero_shot" in asked(ran[0], "compare", "sentiment")
    assert "did you mean 'sentiment'" in kindling(ran[0], "compare", "sentimant", code=1)
    assert "done" in asked(ran[0], "clean", "--yes")


@pytest.fixture
def copied(ran, tmp_path, monkeypatch, prefect_server):
    folder = tmp_path / "workspace"
    shutil.copytree(ran[0], folder, symlinks=True)
    isolate(monkeypatch, folder, prefect_server)
    return folder


def test_clean_forgets_the_runs_that_lead_nowhere_and_no_other(copied):
    """Deleted are runs that failed; kept what lineage, a resumable stage or a child refers to."""
    from mlflow.entities import ViewType

    mlflow = tracking.client(copied)
    where = tracking.experiment(mlflow, copied, "quickstart")
    before = {run.info.run_id for run in mlflow.search_runs([where])}

    def ended(status: str, **tags: str) -> str:
        run_id = mlflow.create_run(where, tags=tags).info.run_id
        mlflow.set_terminated(run_id, status)
        return run_id

    lost = ended("FAILED")
    made = ended("FAILED", **{"kindling.content": "0" * 64})
    parent = ended("FAILED")
    child = ended("FINISHED", **{tracking.PARENT: parent})
    resumable = ended("KILLED")
    note = tracking.run_note(copied, "base@quickstart")
    note.parent.mkdir(parents=True, exist_ok=True)
    write_json(note, {"identity": "x", "run_id": resumable, "pid": 1, "born": 0.0})
    said = asked(copied, "clean", "--yes")
    assert f"lead nowhere: 1\n  {lost}" in said
    left = mlflow.search_runs([where], run_view_type=ViewType.ALL)
    assert {run.info.run_id for run in left} == before | {made, parent, child, resumable}


def stale(workspace: Path) -> set[str]:
    return {name.split("@")[0] for name in graph.stale(workspace) if "@" in name}


def test_what_a_change_makes_stale(copied):
    """One byte of data, one value of the catalogue: the stages next to it, and no others."""
    reviews = copied / "data" / "reviews.jsonl"
    reviews.write_text(reviews.read_text().replace("film 7 ", "film 7007 "))
    assert stale(copied) == {"dataset"}
    catalogue = copied / "pipelines.yaml"
    catalogue.write_text(catalogue.read_text().replace("rank: 2", "rank: 4"))
    assert stale(copied) == {"dataset", "adapter", "random", "report"}


def test_back_to_an_earlier_setting_all_is_as_it_was(copied):
    """Settings A, B, A: DVC restores A's adapter, while the latest run of the stage was B's, and
    what follows the adapter must follow it back.
    """
    first, before = evidence.result_of(copied, "adapter@lora"), contents(copied)
    call(copied, *DVC, "repro", "-q", "adapter@lora")
    kindling(copied, "run", "quickstart", "--set", "adapters.lora.rank=4")
    assert evidence.result_of(copied, "adapter@lora")["figures"] != first["figures"]
    said = kindling(copied, "run", "quickstart", "--set", "adapters.lora.rank=2")
    assert "Running stage 'adapter@lora'" not in said
    assert evidence.result_of(copied, "adapter@lora") == first
    assert contents(copied) == before
    assert not graph.stale(copied)


def test_set_changes_the_catalogue_and_keeps_comments(copied):
    catalogue = copied / "pipelines.yaml"
    catalogue.write_text("# a comment\n" + catalogue.read_text())
    said = kindling(copied, "run", "quickstart", "--set", "adapters.lora.rnk=4", code=1)
    assert "unknown key 'rnk'; did you mean 'rank'" in said
    assert "rank: 4" in edit(copied, ["adapters.lora.rank=4"])
    assert catalogue.read_text().startswith("# a comment")


def test_evaluate_brings_scores_up_to_date_and_registers_nothing(copied):
    """The README's promise: all scores are told, and only what is stale is made before."""
    edit(copied, ["adapters.lora.rank=4"])
    said = kindling(copied, "evaluate", "quickstart", "--json", "told.json")
    assert set(re.findall(r"Running stage '(.*?)'", said)) == {"adapter@lora", "evaluation@lora"}
    told, judged = read_json(copied / "told.json"), copied / "artifacts/quickstart/evaluations"
    assert set(told) == {"zero_shot", "lora", "soft_prompt", "full"}
    for name, figures in told.items():
        assert figures == read_json(judged / name / "metrics.json")
        assert f"\n{name}: {figures['metric']} {figures['score']:.3f} [" in f"\n{said}"
    listed = json.loads(asked(copied, "registry", "list", "--json"))["models"]
    assert {len(versions) for versions in listed.values()} == {1}


def test_a_touched_module_reruns_what_imports_it_however_it_is_started(copied):
    """A comment in a helper: its stage runs; its result is the same, so nothing behind it does."""
    helper = copied / "components" / "corpus.py"  # of all stages the cheapest imports it
    helper.write_text(helper.read_text() + "# touched\n")
    said = kindling(copied, "run", "quickstart")
    assert re.findall(r"Running stage '(.*?)'", said) == ["corpus@quickstart"]
    assert "up to date" in call(copied, *DVC, "repro")
    helper.write_text(helper.read_text() + "# again\n")
    said = call(copied, *DVC, "repro")
    assert re.findall(r"Running stage '(.*?)'", said) == ["corpus@quickstart"]
    assert graph.stale(copied) == {}
