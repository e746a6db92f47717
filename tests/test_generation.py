"""Generated answers: the same in a batch as alone, trained and judged on a task of the world."""

from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient
from transformers import AutoTokenizer

from components import world
from components.adapters import METHODS, load_adapter
from components.adapters.encoding import as_text, encode, opening, overflows, pairs_of, room
from components.adapters.lora import Lora
from components.adapters.prompt import PromptDesign
from components.adapters.training import train_adapter
from components.corpus import build_corpus
from components.dataset import Dataset
from components.evaluation import decoding, evaluate_adapter, generation
from components.evaluation.decoding import Decoding, generate
from components.evaluation.subject import Subject
from components.ingest import ingest
from components.lineage import read_json, read_jsonl, write_json
from components.models import llama
from components.prompts import Prompt
from components.reporter import Silent
from components.serving.server import create_app
from components.tasks import Task, build_task
from components.tokenizer import Tokenizer, train_tokenizer
from tests.serving import make_gateway
from tests.tiny_models import ADAPTERS, signed

PROMPTS = ["the film was", "a", "the plot was b . the cast was c and the film was d", "the cast"]
SHORT = Decoding(max_new_tokens=12)
WORLD = Path(world.__file__)


def opened(folders, name):
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    if name == "base":
        return llama.load(folders["base"]).eval(), tokenizer
    return load_adapter(folders["base"], folders[name]), tokenizer


def greedy(model, tokenizer, prompt, count):
    """Token by token, each from a whole forward pass over one unpadded sequence."""
    known = [*opening(model, tokenizer), *as_text(tokenizer, prompt)]
    made = []
    for _ in range(count):
        ids = torch.tensor([[*known, *made]])
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        made.append(int(logits.argmax()))
        if made[-1] == tokenizer.eos_token_id:
            return tokenizer.decode(made[:-1])
    return tokenizer.decode(made)


@pytest.mark.parametrize("name", ["base", *(name for name in ADAPTERS if name != "head")])
def test_a_batch_gives_what_each_prompt_alone_gives(folders, name):
    """Padding between a short prompt and its answer once shifts every position, or is attended."""
    model, tokenizer = opened(folders, name)
    made = generate(model, tokenizer, PROMPTS, [0] * 4, SHORT)
    assert [answer.text for answer in made] == [greedy(model, tokenizer, p, 12) for p in PROMPTS]
    assert not any(answer.truncated for answer in made)


@pytest.mark.parametrize("name", ["base", "lora"])
def test_greedy_answers_are_those_of_transformers(folders, name):
    model, tokenizer = opened(folders, name)
    made = generate(model, tokenizer, PROMPTS, [0] * 4, SHORT)
    for prompt, answer in zip(PROMPTS, made, strict=True):
        ids = torch.tensor([[tokenizer.bos_token_id, *as_text(tokenizer, prompt)]])
        theirs = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )[0, ids.shape[1] :]
        assert answer.text == tokenizer.decode(theirs, skip_special_tokens=True)


def test_a_sample_depends_on_its_seed_alone(folders):
    model, tokenizer = opened(folders, "base")
    warm = Decoding(max_new_tokens=8, temperature=1.0)
    together = generate(model, tokenizer, [*PROMPTS, PROMPTS[0]], [1, 2, 3, 4, 9], warm)
    alone = generate(model, tokenizer, [PROMPTS[0]], [1], warm)
    assert together[0] == alone[0]
    assert together[0].text != together[4].text
    cold = Decoding(max_new_tokens=8, temperature=1e-6)
    sampled = generate(model, tokenizer, PROMPTS, [5] * 4, cold)
    assert sampled == generate(model, tokenizer, PROMPTS, [0] * 4, Decoding(max_new_tokens=8))


def test_samples_follow_the_distribution(folders):
    model, tokenizer = opened(folders, "base")
    ids = torch.tensor([[tokenizer.bos_token_id, *as_text(tokenizer, PROMPTS[0])]])
    with torch.no_grad():
        shares = (model(input_ids=ids).logits[0, -1].double() / 0.5).softmax(-1)
    one = Decoding(max_new_tokens=1, temperature=0.5)
    seeds = list(range(600))
    made = generate(model, tokenizer, [PROMPTS[0]] * 600, seeds, one)
    likely = shares.topk(30).indices
    texts = {tokenizer.decode([int(token)], skip_special_tokens=True) for token in likely}
    share = sum(answer.text in texts for answer in made) / 600
    expected = sum(
        float(p) for t, p in enumerate(shares)
        if tokenizer.decode([t], skip_special_tokens=True) in texts
    )  # fmt: skip
    assert share == pytest.approx(expected, abs=0.07)  # more than three standard errors


def test_a_stop_text_ends_an_answer(folders):
    model, tokenizer = opened(folders, "base")
    whole = generate(model, tokenizer, PROMPTS[:1], [0], SHORT)[0]
    assert not whole.finished and len(whole.text) > 4
    stop = whole.text[3:5]
    cut = generate(model, tokenizer, PROMPTS[:1], [0], Decoding(12, stop=(stop,)))[0]
    assert cut.finished and cut.text == whole.text[: whole.text.index(stop)]


def test_the_border_of_worked_examples_ends_an_answer_behind_them():
    """A base that has seen two examples goes on with a third, which was part of the answer."""

    def stops(shots, stop=()):
        prompt = {"shot_texts": shots, "stop": list(stop)}
        adapter = {"prompt": prompt, "settings": {"seed": 1}}
        task = {"max_new_tokens": 8, "normalise": "none", "metric": "exact_match"}
        subject = Subject(None, None, adapter, task, METHODS["prompt"])
        return generation.decoding(subject)["stop"]

    assert stops([]) == [] and stops([], ["."]) == ["."]
    assert stops(["a b"]) == ["\n\n"] and stops(["a b"], ["\n\n", "."]) == ["\n\n", "."]


@pytest.mark.parametrize("name", ["base", "soft_prompt"])
def test_a_prompt_too_long_keeps_its_end_and_is_counted(folders, name):
    model, tokenizer = opened(folders, name)
    long = "the film was a . " * 60
    left = room(model) - len(opening(model, tokenizer)) - 12
    kept = tokenizer.decode(as_text(tokenizer, long)[-left:])
    made = generate(model, tokenizer, [long, PROMPTS[0]], [0, 0], SHORT)
    assert [answer.truncated for answer in made] == [True, False]
    assert made[0].text == generate(model, tokenizer, [kept], [0], SHORT)[0].text
    with pytest.raises(ValueError, match=rf"max_new_tokens 96 .* context of {room(model)} tokens"):
        generate(model, tokenizer, PROMPTS, [0] * 4, Decoding(96))


def test_free_text_ends_a_document_and_is_cut_where_it_does_not_fit(folders):
    model, tokenizer = opened(folders, "base")
    ((_, target),) = pairs_of(model, tokenizer, ["the"], [" good film"], free_text=True)
    assert target == (*as_text(tokenizer, " good film"), tokenizer.eos_token_id)
    assert not overflows(model, tokenizer, "the", " good film", True)
    long = "the film was a . " * 60
    ((start, target),) = pairs_of(model, tokenizer, [long], [long], free_text=True)
    assert overflows(model, tokenizer, long, long, True)
    assert len(start) + len(target) == room(model)
    assert len(start) - 1 == (room(model) - 1) // 2
    assert list(target) == as_text(tokenizer, long)[: len(target)]
    assert list(start[1:]) == as_text(tokenizer, long)[-(len(start) - 1) :]
    assert encode(model, tokenizer, [long], [long], free_text=True).lengths == [len(target)]


def test_overflow_is_counted_to_the_token(folders):
    model, tokenizer = opened(folders, "base")
    word = as_text(tokenizer, "a")
    assert len(word) == 1
    fits = room(model) - 1 - 1  # an end of document before, one token for the answer
    for more, over in ((0, False), (1, True)):
        prompt = "a" * (fits + more)
        count = len(as_text(tokenizer, prompt)) + 1
        assert overflows(model, tokenizer, prompt, "a", False) is (count > room(model) - 1) is over


def learn(model, tokenizer, texts, steps=120):
    """A little pretraining, or a low-rank delta has nothing to turn to its task."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004)
    end = tokenizer.eos_token_id
    rows = [torch.tensor([end, *as_text(tokenizer, text), end]) for text in texts]
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = [rows[n] for n in torch.randint(len(rows), (16,), generator=draw)]
        ids = torch.nn.utils.rnn.pad_sequence(chosen, True, tokenizer.pad_token_id)
        kept = torch.nn.utils.rnn.pad_sequence(chosen, True, -100)
        model(input_ids=ids, labels=kept).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(scope="module")
def velan(tmp_path_factory):
    """A tiny base over the world's translations, and the task of translating them."""
    top = tmp_path_factory.mktemp("velan")
    made = {name: top / name for name in ("data", "corpus", "tokenizer", "base", "task", "texts")}
    for folder in made.values():
        folder.mkdir()
    shared = {"path": "w", "format": "world", "kinds": ["translation"], "size": 900, "seed": 1}
    ingest(Dataset(**shared, source="source", target="target"), WORLD, made["data"], Silent())
    build_corpus(made["data"], made["corpus"], Silent())
    train_tokenizer(Tokenizer(vocab_size=400), made["corpus"], made["tokenizer"], Silent())
    tokenizer = AutoTokenizer.from_pretrained(made["tokenizer"])
    block = llama.Model(layers=2, width=48, heads=2, context=64)
    model = llama.build(block, tokenizer, seed=3)
    learn(model, tokenizer, [row["text"] for row in read_jsonl(made["corpus"] / "train.jsonl")])
    model.save_pretrained(made["base"])
    tokenizer.save_pretrained(made["base"])
    signed(made["base"])
    prompt = Prompt(template="{{source}} =", answer=" {{target}}", stop=["\n"])
    task = Task(
        dataset="data", kind="generation", prompt="ask", metric="chrf", max_new_tokens=20,
        max_eval=24,
    )  # fmt: skip
    build_task(task, "velan", prompt, "ask", made["data"], made["task"], Silent())
    texts = Task(dataset="data", kind="language_modelling", prompt="text", max_eval=12)
    said = Prompt(template="{{source}} is {{target}}.")
    build_task(texts, "texts", said, "text", made["data"], made["texts"], Silent())
    return made


def judged(velan, block, name, task="task"):
    top = velan["base"].parent
    adapter, out = top / name, top / f"{name}.evaluation"
    for folder in (adapter, out):
        folder.mkdir()
    trained = train_adapter(
        block, name, velan[task], velan["base"], adapter,
        checkpoints=top / f"{name}.kept", identity=name, report=Silent(),
    )  # fmt: skip
    signed(adapter)
    return trained, evaluate_adapter(adapter, velan[task], velan["base"], out, Silent()), out


COMMON = {"pipeline": "tiny", "task": "velan", "seed": 1}
LORA = {"method": "lora", "learning_rate": 0.02, "batch_size": 16, "precision": "float32", **COMMON}


def test_a_translation_is_learned_and_judged(velan):
    trained, figures, out = judged(velan, Lora(steps=60, rank=8, **LORA), "lora")
    _, before, plain = judged(velan, PromptDesign(method="prompt", shots=1, **COMMON), "plain")
    history = read_json(out.parent / "lora" / "training.json")["history"]
    assert history[-1]["validation_loss"] < 0.6 * history[0]["loss"]
    assert figures["score"] > before["score"] + 0.05
    assert trained["truncated"] == figures["truncated"] == 0
    metrics, records = read_json(out / "metrics.json"), list(read_jsonl(out / "records.jsonl"))
    assert metrics["decoding"]["signature"].endswith("version:2.6.0")
    assert metrics["interval"][0] < metrics["score"] < metrics["interval"][1]
    assert len(records) == metrics["n"] == 24 and metrics["confusion"]["labels"] == []
    assert all(0 <= record["correct"] <= 1 and len(record["generated"]) == 1 for record in records)
    assert metrics["unfinished"] == sum(not record["finished"] for record in records) < 24
    worst = read_json(out / "worst.json")
    assert worst[0]["correct"] == min(record["correct"] for record in records)
    key = read_json(plain / "metrics.json")["comparison_key"]
    assert metrics["comparison_key"] == key  # another wording, judged on the same


def test_the_server_generates_with_its_template_and_does_not_classify(velan, tmp_path):
    adapter = velan["base"].parent / "unlabelled"
    adapter.mkdir()
    train_adapter(
        PromptDesign(method="prompt", **COMMON), "unlabelled", velan["task"], velan["base"],
        adapter, checkpoints=adapter, identity="x", report=Silent(),
    )  # fmt: skip
    served = {"unlabelled": signed(adapter)}
    gateway = make_gateway({"base": velan["base"], **served}, tmp_path)
    client = TestClient(create_app(gateway), "http://localhost")
    refused = client.post("/v1/classify", json={"model": "unlabelled", "input": "the dog"})
    assert refused.status_code == 400
    assert "writes texts and has no labels" in refused.json()["error"]["message"]
    row = next(read_jsonl(velan["task"] / "test.jsonl"))
    template = {"id": "ask", "variables": {"source": row["prompt"].removesuffix(" =")}}
    asked = {"model": "unlabelled", "template": template, "max_tokens": 20, "temperature": 0}
    told = client.post("/v1/completions", json=asked).json()
    assert "choices" in told, told
    answer = told["choices"][0]["text"]
    model, tokenizer = llama.load(velan["base"]), AutoTokenizer.from_pretrained(velan["base"])
    alone = generate(model, tokenizer, [row["prompt"]], [0], Decoding(20))[0]
    assert answer == alone.text


def test_samples_are_judged_by_where_most_of_them_end(velan):
    block = PromptDesign(method="prompt", samples=3, temperature=0.8, **COMMON)
    _, _, out = judged(velan, block, "sampled")
    records = list(read_jsonl(out / "records.jsonl"))
    assert all(len(record["generated"]) == 3 for record in records)
    assert all(sum(record["votes"].values()) == 3 for record in records)
    assert len({tuple(record["generated"]) for record in records}) > 1
    assert read_json(out / "metrics.json")["decoding"]["samples"] == 3
    with pytest.raises(ValueError, match="samples 3 at temperature 0"):
        PromptDesign(method="prompt", samples=3, **COMMON)


def test_an_adapter_is_asked_in_its_own_wording(velan, tmp_path):
    """A champion judged anew once was asked in the words of the candidate that would replace it."""
    block = PromptDesign(method="prompt", shots=1, **COMMON)
    _, figures, out = judged(velan, block, "older")
    prompt = Prompt(template="Say in Velan: {{source}}\n", answer=" {{target}}", stop=["\n"])
    task, again = tmp_path / "task", tmp_path / "again"
    for folder in (task, again):
        folder.mkdir()
    settings = {"metric": "chrf", "max_new_tokens": 20, "max_eval": 24}
    newer = Task(dataset="data", kind="generation", prompt="ask", **settings)
    build_task(newer, "velan", prompt, "ask", velan["data"], task, Silent())
    adapter = out.parent / "older"
    assert evaluate_adapter(adapter, task, velan["base"], again, Silent()) == figures
    for file in ("records.jsonl", "metrics.json", "golden.json"):
        assert (again / file).read_bytes() == (out / file).read_bytes()
    wanting = read_json(adapter / "adapter.json")
    wanting["prompt"]["template"] = "{{source}} {{tongue}}"
    write_json(adapter / "adapter.json", wanting)
    with pytest.raises(ValueError, match="asks for tongue, and the rows of task velan now have s"):
        evaluate_adapter(adapter, task, velan["base"], again, Silent())


def test_texts_are_judged_by_their_nats(velan):
    texts = COMMON | {"task": "texts"}
    block = Lora(steps=30, rank=4, **LORA | texts)
    _, figures, _ = judged(velan, block, "texts_lora", task="texts")
    _, before, plain = judged(velan, PromptDesign(method="prompt", **texts), "texts_plain", "texts")
    assert figures["score"] < 0.8 * before["score"]
    model, tokenizer = llama.load(velan["base"]), AutoTokenizer.from_pretrained(velan["base"])
    total, size, end = 0.0, 0, tokenizer.eos_token_id
    for row in read_jsonl(velan["texts"] / "test.jsonl"):
        ids = torch.tensor([[end, *as_text(tokenizer, row["answer"]), end]])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        size += len(row["answer"].encode())
    bits = total / size / torch.log(torch.tensor(2.0)).item()
    assert read_json(plain / "metrics.json")["score"] == pytest.approx(bits, abs=1e-4)
    assert read_json(plain / "metrics.json")["lower_is_better"] is True


def test_every_end_that_a_base_states_ends_an_answer(folders):
    """As the server ends them: what was judged went on behind a chat model's end of a turn."""
    model, tokenizer = opened(folders, "lora")
    whole = generate(model, tokenizer, PROMPTS[:1], [0], SHORT)[0].text
    third = tokenizer(whole, add_special_tokens=False)["input_ids"][2]
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, third]
    (answer,) = generate(model, tokenizer, PROMPTS[:1], [0], SHORT)
    assert answer.finished and whole.startswith(answer.text) and answer.text != whole


def test_batches_hold_what_they_say(monkeypatch, folders):
    """More prompts than a batch has room for, in an order that is not theirs."""
    monkeypatch.setattr(decoding, "ROWS", 2)
    model, tokenizer = opened(folders, "lora")
    small = generate(model, tokenizer, PROMPTS, [0] * 4, SHORT)
    monkeypatch.undo()
    assert small == generate(model, tokenizer, PROMPTS, [0] * 4, SHORT)
