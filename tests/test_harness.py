"""lm-evaluation-harness: its choices are ours, whoever scores, ours or its own code."""

import json
import math
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from ruamel.yaml import YAML
from transformers import AutoTokenizer

from components.adapters import load_adapter
from components.adapters.encoding import as_text, virtual_tokens
from components.adapters.lora import Lora
from components.adapters.prompt import PromptDesign
from components.adapters.prompt_tuning import PromptTuning
from components.dataset import Dataset
from components.evaluation import evaluate_adapter
from components.evaluation.decoding import generate
from components.evaluation.harness import KindlingLM, evaluate_tasks, load_tasks
from components.ingest import ingest
from components.lineage import read_jsonl, write_jsonl
from components.models import llama
from components.prompts import Prompt
from components.reporter import Silent
from components.tasks import Task, build_task
from components.tokenizer import Tokenizer, train_tokenizer
from components.training import machine
from flows import harness, settings
from flows.harness import figures_of, table
from tests.conftest import ROOT, SST2, keep_one_adapter
from tests.tiny_models import signed, train

LABELS = {"negative": " bad", "positive": " good"}
COMMON = {"pipeline": "tiny", "task": "taste", "seed": 1}
TRAINING = {"steps": 8, "batch_size": 8, "precision": "float32", **COMMON}
ADAPTERS = {
    "zero_shot": PromptDesign(method="prompt", **COMMON),
    "lora": Lora(method="lora", rank=2, learning_rate=0.02, **TRAINING),
    "soft_prompt": PromptTuning(
        method="prompt_tuning", virtual_tokens=9, learning_rate=0.3, **TRAINING
    ),
}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory, sst2_if_there):
    """SST-2 where it is there, else the world's reviews: rows with labels."""
    out = tmp_path_factory.mktemp("reviews")
    if sst2_if_there:
        ingest(Dataset.model_validate(SST2), sst2_if_there, out, Silent())
        return out
    block = {"path": "components/world.py", "format": "world", "kinds": ["review"], "size": 6000}
    block |= {"text": "review", "label": "label", "labels": {n: n for n in LABELS}}
    ingest(Dataset.model_validate(block), ROOT / "components" / "world.py", out, Silent())
    return out


@pytest.fixture(scope="module")
def judged(tmp_path_factory, reviews):
    """A tiny base, adapters of it, their task, and the same task for the harness."""
    top = tmp_path_factory.mktemp("harness")
    made = {name: top / name for name in ("read", "tokenizer", "base", "task", *ADAPTERS)}
    for folder in made.values():
        folder.mkdir()
    prompt = Prompt(template="{{text}} It was", answer=LABELS)
    limits = {"max_train": 2000, "max_eval": 200}
    task = Task(dataset="reviews", kind="classification", prompt="ask", **limits)
    build_task(task, "taste", prompt, "ask", reviews, made["task"], Silent())
    make_base(made)
    for name, adapter in ADAPTERS.items():
        train(adapter, made["task"], made["base"], made[name])
    described = {
        "task": "taste",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "task/test.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": [answer.strip() for answer in LABELS.values()],
        "doc_to_target": f"{{{{ {list(LABELS)}.index(label) }}}}",
        "metric_list": [{"metric": "acc"}],
    }
    end = AutoTokenizer.from_pretrained(made["base"]).bos_token
    for name, begins in (("taste", ""), ("begun", end)):
        with (top / f"{name}.yaml").open("w") as file:
            YAML().dump(described | {"description": begins}, file)
    return top


def make_base(made):
    """A base whose answers are a token each, for the harness adds up what we take the mean of."""
    for split in ("train", "validation", "test"):
        rows = read_jsonl(made["task"] / f"{split}.jsonl")
        texts = ({"text": row["prompt"] + row["answer"]} for row in rows)
        write_jsonl(made["read"] / f"{split}.jsonl", texts)
    train_tokenizer(Tokenizer(vocab_size=800), made["read"], made["tokenizer"], Silent())
    tokenizer = AutoTokenizer.from_pretrained(made["tokenizer"])
    assert [len(tokenizer(answer)["input_ids"]) for answer in LABELS.values()] == [1, 1]
    block = llama.Model(layers=2, width=32, heads=2, context=128)
    base = llama.build(block, tokenizer, seed=3)
    with torch.no_grad():  # wild enough for the text to matter to what follows
        for weights in base.parameters():
            weights.mul_(8 if weights.dim() > 1 else 1)
    base.save_pretrained(made["base"])
    tokenizer.save_pretrained(made["base"])
    signed(made["base"])


def model_of(top, name):
    return llama.load(top / "base") if name == "base" else load_adapter(top / "base", top / name)


def choices(told) -> list[str]:
    """The label that the harness chose for each row, in the rows' order."""
    samples = sorted(told["samples"]["taste"], key=lambda sample: sample["doc_id"])
    sums = [[float(value) for value, _ in sample["filtered_resps"]] for sample in samples]
    return [list(LABELS)[int(np.argmax(one))] for one in sums]


@pytest.mark.parametrize(
    ("name", "ours"), [("base", "zero_shot"), ("lora", "lora"), ("soft_prompt", "soft_prompt")]
)
def test_the_choices_are_those_of_the_harness(judged, tmp_path, name, ours):
    """Through our bridge, and by the harness's own code on the same model."""
    evaluate_adapter(judged / ours, judged / "task", judged / "base", tmp_path, Silent())
    mine = [record["prediction"] for record in read_jsonl(tmp_path / "records.jsonl")]
    assert len(set(mine)) == 2, "a model that always says the same proves nothing"
    model, tokenizer = model_of(judged, name), AutoTokenizer.from_pretrained(judged / "base")
    told = evaluate_tasks(model, tokenizer, judged / "taste.yaml")
    assert choices(told) == mine
    right = [record["correct"] for record in read_jsonl(tmp_path / "records.jsonl")]
    assert told["results"]["taste"]["acc,none"] == pytest.approx(sum(right) / len(right))
    # its own code has to be told of the end of a document, with which a soft prompt begins itself
    file = judged / ("taste.yaml" if virtual_tokens(model) else "begun.yaml")
    its_own = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=16)
    assert choices(evaluate(lm=its_own, task_dict=load_tasks(file))) == mine


@pytest.mark.parametrize("name", ["base", "lora", "soft_prompt"])
def test_sums_of_the_harness_own_code(judged, name):
    """Of several tokens, after an empty context, and of texts longer than the context."""
    model, tokenizer = model_of(judged, name), AutoTokenizer.from_pretrained(judged / "base")
    longest = 128 - virtual_tokens(model)
    its_own = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=longest)
    end = "" if virtual_tokens(model) else tokenizer.bos_token
    bridge = KindlingLM(model, tokenizer)
    pairs = [("The film is", " good and warm"), ("", " The plot"), ("A cast", " bad"), ("", "x")]
    asked = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    told = [Instance("loglikelihood", {}, (end + c if c else c, a), 0) for c, a in pairs]
    for mine, other in zip(bridge.loglikelihood(asked), its_own.loglikelihood(told), strict=True):
        assert mine[0] == pytest.approx(other[0], abs=1e-4) and mine[1] == other[1]
    texts = ["A short one.", "The plot is dull, but the cast is clever. " * 20]
    asked = [Instance("loglikelihood_rolling", {}, (text,), n) for n, text in enumerate(texts)]
    expected = its_own.loglikelihood_rolling(asked)
    assert bridge.loglikelihood_rolling(asked) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", ["base", "soft_prompt"])
@pytest.mark.parametrize("context", ["", "The film"])
def test_a_continuation_that_does_not_fit_loses_its_beginning(judged, name, context):
    """It once ended the run, and behind a soft prompt nobody counted the virtual tokens."""
    model, tokenizer = model_of(judged, name), AutoTokenizer.from_pretrained(judged / "base")
    bridge = KindlingLM(model, tokenizer)
    long = " The plot is dull, but the cast is clever." * 20
    pairs = [("A cast", " bad"), (context, long), ("", " The plot")]
    told = bridge.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs])
    assert bridge.truncated == 1
    soft = virtual_tokens(model)
    begin = [] if soft and context else [tokenizer.bos_token_id]
    end = as_text(tokenizer, long)[len(begin) + soft - 128 :]
    ids = torch.tensor([[*begin, *end]])  # all places of the context, with the virtual tokens
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, soft:]
    each = logits.log_softmax(-1)[len(begin) : -1].gather(1, ids[0, len(begin) + 1 :, None])
    assert told[1][0] == pytest.approx(each.sum().item(), abs=1e-2)
    short = KindlingLM(model, tokenizer)
    asked = [Instance("loglikelihood", {}, pairs[number], 0) for number in (0, 2)]
    assert short.loglikelihood(asked)[0][0] == pytest.approx(told[0][0], abs=1e-4)
    assert short.truncated == 0


@pytest.mark.parametrize("name", ["base", "soft_prompt"])
def test_many_greedy_answers_are_written_at_once_as_each_alone(judged, name, monkeypatch):
    """Of several settings, in an order that is not theirs; transformers writes what samples."""
    model, tokenizer = model_of(judged, name), AutoTokenizer.from_pretrained(judged / "base")
    bridge = KindlingLM(model, tokenizer)
    texts = ["The film", "A cast that nobody knows", "", "The plot is dull. " * 30]
    settings = [{"until": ["."], "max_gen_toks": 9}, {"until": [""], "max_new_tokens": 5}]
    asked = [Instance("generate_until", {}, (text, one), 0) for one in settings for text in texts]
    batches = []

    def counted(model, tokenizer, prompts, *more):
        batches.append(len(prompts))
        return generate(model, tokenizer, prompts, *more)

    monkeypatch.setattr("components.evaluation.harness.generate", counted)
    together = bridge.generate_until(asked)
    bare = bool(virtual_tokens(model))  # behind a soft prompt a context of nothing is for one alone
    assert batches == [4 - bare, 4 - bare]
    monkeypatch.setattr(KindlingLM, "_plain", lambda *_: False)
    assert together == bridge.generate_until(asked)
    assert len(batches) == 2
    monkeypatch.undo()
    torch.manual_seed(0)
    sampled = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 4, "until": []}
    assert bridge.generate_until([Instance("generate_until", {}, ("The film", sampled), 0)])


def test_several_ends_of_a_base_are_those_of_transformers(judged, monkeypatch):
    model, tokenizer = model_of(judged, "base"), AutoTokenizer.from_pretrained(judged / "base")
    bridge = KindlingLM(model, tokenizer)
    asked = [Instance("generate_until", {}, ("The film", {"until": [], "max_gen_toks": 12}), 0)]
    whole = bridge.generate_until(asked)[0]
    ids = torch.tensor([[tokenizer.bos_token_id, *as_text(tokenizer, "The film")]])
    another = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] + 3].item()
    special = tokenizer.convert_ids_to_tokens(another)  # as the end of a chat's turn is
    tokenizer.add_special_tokens({"additional_special_tokens": [special]})
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, another]
    written = Mock(wraps=generate)
    monkeypatch.setattr("components.evaluation.harness.generate", written)
    shorter = bridge.generate_until(asked)
    assert written.call_count == 1, "transformers wrote it"
    assert whole.startswith(shorter[0]) and shorter[0] != whole
    monkeypatch.setattr(KindlingLM, "_plain", lambda *_: False)
    assert shorter == bridge.generate_until(asked)


@pytest.mark.parametrize("name", ["base", "soft_prompt"])
def test_it_writes_until_a_stop(judged, name):
    model, tokenizer = model_of(judged, name), AutoTokenizer.from_pretrained(judged / "base")
    bridge = KindlingLM(model, tokenizer)

    def write(**settings):
        asked = [Instance("generate_until", {}, ("The film", settings), 0)]
        return bridge.generate_until(asked)[0]

    whole = write(until=[], max_gen_toks=12)
    assert whole and whole == write(until=[], max_gen_toks=12, do_sample=False)
    stop = whole[len(whole) // 2]
    assert write(until=[stop], max_gen_toks=12) == whole.partition(stop)[0]
    assert write(until=[])  # no limit given: half of the context


def test_nothing_to_score_is_refused(judged):
    bridge = KindlingLM(model_of(judged, "base"), AutoTokenizer.from_pretrained(judged / "base"))
    with pytest.raises(ValueError, match="nothing to score after the context 'The film'"):
        bridge.loglikelihood([Instance("loglikelihood", {}, ("The film", ""), 0)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("dataset_path: json\n", "neither 'task' nor 'group'"),
        ("task: a\ndataset_kwargs: {data_files: {test: gone.jsonl}}\n", "there is no gone.jsonl"),
    ],
)
def test_a_task_that_cannot_run_is_refused(tmp_path, text, said):
    file = tmp_path / "task.yaml"
    if text:
        file.write_text(text)
    with pytest.raises(ValueError, match=said):
        load_tasks(file)


def test_figures_and_table():
    results = {"taste": {"alias": "taste", "acc,none": 0.5, "acc_stderr,none": 0.1}}
    results["sums"] = {"exact,strict": 0.25, "exact_stderr,strict": "N/A", "ppl,none": math.inf}
    figures = figures_of(results)
    expected = {"taste": {"acc": 0.5, "acc_stderr": 0.1}, "sums": {"exact.strict": 0.25}}
    assert figures == expected
    lines = table({"base": figures}).splitlines()
    assert lines[1].split() == ["base", "taste", "acc", "0.5000", "±", "0.1000"]
    assert lines[2].split() == ["base", "sums", "exact.strict", "0.2500"]


def test_products_are_settled_before_a_model_is_judged(tmp_path, monkeypatch):
    """On AMD's processors they took twice the time."""
    done = []
    monkeypatch.setattr("components.evaluation.harness.load_tasks", lambda _: None)
    monkeypatch.setattr(settings, "apply", lambda *_: None)
    monkeypatch.setattr(harness, "_bring_up_to_date", lambda *_: done.append("made"))
    monkeypatch.setattr(machine, "settle_products", lambda: done.append("settled"))
    monkeypatch.setattr(harness, "_parent", lambda *_: nullcontext())
    monkeypatch.setattr(harness, "_judge", lambda *_: done.append("judged"))
    catalogue = SimpleNamespace(
        compute=SimpleNamespace(threads=2), adapters={}, adapters_of=lambda _: []
    )
    assert list(harness.evaluate(tmp_path, catalogue, "tiny", tmp_path, lambda _: None)) == []
    assert done == ["made", "settled", "judged"]


@pytest.mark.slow
def test_the_command(tiny_workspace):
    """Base and adapters, a table, a file, and runs in MLflow."""
    keep_one_adapter(tiny_workspace, "lora")
    rows = [{"prompt": f"Film {n} is", "label": n % 2} for n in range(8)]
    write_jsonl(tiny_workspace / "rows.jsonl", rows)
    (tiny_workspace / "task.yaml").write_text(
        "task: tiny\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: prompt\n"
        "doc_to_choice: [good, bad]\ndoc_to_target: label\nmetric_list: [{metric: acc}]\n"
    )
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "evaluate",
        "quickstart",
        "--harness",
        "task.yaml",
    ]
    done = subprocess.run(
        [*command, "--json", "told.json"], cwd=tiny_workspace, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tiny_workspace / "told.json").read_text())
    assert set(told) == {"base", "lora"}
    assert set(told["lora"]["tiny"]) == {"acc", "acc_stderr"}
    assert f"{told['lora']['tiny']['acc']:.4f}" in done.stdout and "±" in done.stdout
    from flows import tracking

    mlflow = tracking.client(tiny_workspace)
    where = [tracking.experiment(mlflow, tiny_workspace, "quickstart")]
    runs = {run.info.run_name: run for run in mlflow.search_runs(where)}
    assert runs["harness@lora"].data.metrics["tiny.acc"] == told["lora"]["tiny"]["acc"]
    parent = runs["harness@base"].data.tags[tracking.PARENT]
    assert mlflow.get_run(parent).data.metrics["lora.tiny.acc"] == told["lora"]["tiny"]["acc"]
    assert all(run.info.status == "FINISHED" for run in runs.values())
