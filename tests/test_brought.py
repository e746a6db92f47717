"""A foundation model that was brought along, of each family: ready, adapted, judged, served."""

import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from components.adapters import METHODS, load_adapter
from components.adapters.task_data import TaskData
from components.adapters.training import train_adapter
from components.evaluation import evaluate_adapter
from components.evaluation.language_model import evaluate_language_model
from components.inference.checkpoint import Unsupported
from components.inference.constraint import Grammar, one_of, vocabulary_of
from components.lineage import read_json, read_jsonl, write_json
from components.models import llama
from components.models.brought import bring
from components.reporter import Silent
from components.serving import batched_engine, transformers_engine
from components.serving.engine import Sampling
from components.serving.engines import engine_of
from components.training import machine
from tests.serving import gateway_to, listening
from tests.tiny_models import ADAPTERS, block_of, signed

FAMILIES = ("llama", "gpt2", "qwen2", "qwen3")


def make_family(family: str, folder: Path, tokenizer_from: Path) -> Path:
    """A small random model folder of `family`, as the hub has them, with its own special tokens."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_from)
    tokenizer.pad_token = None
    if family != "llama":  # Qwen has no beginning of a text; GPT-2's is its end
        tokenizer.bos_token = None
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if family == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96}
    else:
        shape |= {"intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 96}
    if family == "qwen3":
        shape["head_dim"] = 8
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer) + 5, **shape, **ends)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def base(request, folders, tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp(request.param)
    source = make_family(request.param, top / "source", folders["tokenizer"])
    out = top / "base"
    out.mkdir()
    figures = bring(source, out, Silent())
    assert figures["context"] == 96 and read_json(out / "brought.json")["family"] == request.param
    return signed(out)


def test_the_model_is_the_one_that_was_brought(base):
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(base.parent / "source", dtype=torch.float32)
    ours = AutoModelForCausalLM.from_pretrained(base)
    assert ours.dtype == torch.float32
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        assert torch.equal(theirs(ids).logits, ours(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert None not in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert ours.config.bos_token_id == tokenizer.bos_token_id


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_every_method_adapts_it(base, folders, tmp_path, name):
    """Trained, kept, judged, and served with the text that the model alone gives."""
    adapter, evaluation = tmp_path / "adapter", tmp_path / "evaluation"
    adapter.mkdir()
    evaluation.mkdir()
    train_adapter(
        block_of(ADAPTERS[name]),
        name,
        folders["taste"],
        base,
        adapter,
        checkpoints=tmp_path / "checkpoints",
        identity="x",
        report=Silent(),
    )
    signed(adapter)
    figures = evaluate_adapter(adapter, folders["taste"], base, evaluation, Silent())
    assert 0 <= figures["score"] <= 1
    assert len(list(read_jsonl(evaluation / "records.jsonl"))) > 10
    assert load_adapter(base, adapter) is not None
    engine = engine_of(base, {name: adapter})
    assert set(engine.classify(name, ["the film was a ."])[0]) == {"good", "bad"}
    if ADAPTERS[name]["method"] != "head":
        ids = engine.encode("the film was")
        assert len(list(engine.generate(name, ids, Sampling(4, 0.0)))) <= 4
    engine.close()


def test_preferences_are_learned_against_a_reference_that_stands(folders, tmp_path):
    """GPT-2 brings dropout of 0.1 along: untrained, the loss was anything but log 2."""
    source, out = make_family("gpt2", tmp_path / "source", folders["tokenizer"]), tmp_path / "base"
    out.mkdir()
    bring(source, out, Silent())
    base, tokenizer = llama.load(out), AutoTokenizer.from_pretrained(out)
    assert base.config.resid_pdrop == base.config.attn_pdrop == base.config.embd_pdrop == 0.1
    rows = list(read_jsonl(folders["taste"] / "train.jsonl"))[:8]
    data = TaskData(tokenizer, read_json(folders["taste"] / "task.json")["labels"], rows)
    block = block_of({"method": "dpo", "rank": 2, "dropout": 0.5})
    model = METHODS["dpo"].build(base, block, data)
    loss = METHODS["dpo"].objective(model, block, data)
    batch = loss.encode(rows)

    def losses(training: bool) -> set[float]:
        loss.train(training)
        with torch.no_grad():
            return {round(loss(batch, len(rows)).item(), 6) for _ in range(4)}

    assert losses(True) == losses(False) == {0.693147}
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    assert len(losses(True)) == 4 and len(losses(False)) == 1  # of the deltas' own dropout


def test_it_is_judged_as_a_language_model(base, tmp_path):
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    out.mkdir()
    (corpus / "test.jsonl").write_text('{"text": "the film was a ."}\n' * 3, encoding="utf-8")
    counts = '{"splits": {"test": {"rows": 3, "characters": 48}}}'
    (corpus / "report.json").write_text(counts, encoding="utf-8")
    figures = evaluate_language_model(base, corpus, out, Silent())
    assert 1 < figures["bits_per_byte"] < 20


BEGUN = (  # as Llama 3's and Mistral's
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CHATML = (  # as Qwen's, whose tokenizer knows no beginning
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SAID = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Was it good?"}]


@pytest.mark.parametrize(
    ("family", "template"),
    [("llama", BEGUN), ("gpt2", BEGUN), ("qwen2", CHATML), ("gpt2", CHATML)],
)
def test_a_chat_is_read_as_transformers_reads_it(folders, tmp_path, family, template):
    """It had two beginnings, or the end of a turn before its first."""
    source, out = make_family(family, tmp_path / "source", folders["tokenizer"]), tmp_path / "base"
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = template
    if template == BEGUN:
        tokenizer.bos_token = "<|system|>"
    else:
        tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
        tokenizer.eos_token = "<|im_end|>"
    tokenizer.save_pretrained(source)
    out.mkdir()
    bring(source, out, Silent())
    ids = tokenizer.apply_chat_template(SAID, add_generation_prompt=True)["input_ids"]
    with torch.no_grad():
        logits = llama.load(out)(torch.tensor([ids])).logits[0, -1]
    asked = {"model": "base", "messages": SAID, "max_tokens": 1, "temperature": 0}
    engine = engine_of(signed(out))
    with listening(gateway_to(engine, {}, tmp_path)) as address:
        where = f"{address}/v1/chat/completions"
        found = httpx.post(where, json={**asked, "logprobs": True, "top_logprobs": 5}).json()
    engine.close()
    told = [one["logprob"] for one in found["choices"][0]["logprobs"]["content"][0]["top_logprobs"]]
    assert told == pytest.approx(logits.log_softmax(0).topk(5).values.tolist(), abs=1e-4)
    assert found["usage"]["prompt_tokens"] == len(ids)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_any_end_that_the_base_states_ends_an_answer(folders, tmp_path, family):
    """Llama 3's chat models have several; they wrote on behind all but the tokenizer's."""
    source, out = make_family(family, tmp_path / "source", folders["tokenizer"]), tmp_path / "base"
    tokenizer, prompt = AutoTokenizer.from_pretrained(source), "the film"
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(prompt)["input_ids"]]])
    asked = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    made = llama.load(source).generate(ids, **asked)[0, ids.shape[1] :].tolist()
    ends = [tokenizer.eos_token_id, made[3]]
    stated = source / "generation_config.json"
    write_json(stated, read_json(stated) | {"eos_token_id": ends})
    out.mkdir()
    bring(source, out, Silent())
    expected = llama.load(out).generate(ids, **asked)[0, ids.shape[1] :].tolist()
    assert expected[-1] == made[3] and len(expected) < 8
    engine = engine_of(signed(out))
    read = engine.encode(prompt)
    found = [token.id for token in engine.generate("base", read, Sampling(8, 0.0))]
    assert [*found, made[3]] == expected
    if family == "llama":
        held = Sampling(9, 1.0, seed=1, choices=("good",))
        found = [token.id for token in engine.generate("base", read, held)]
        assert tokenizer.decode(found) == "good"
    engine.close()


def test_either_end_may_follow_a_choice(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders["tokenizer"])
    size, beyond = len(tokenizer), len(tokenizer) + 9  # which a configuration may state
    known = vocabulary_of(tokenizer, size, {0, 3, beyond})
    held, (token,) = Grammar(known, one_of(["a"])), tokenizer("a")["input_ids"]
    held.take(token)
    words = np.zeros(-(-size // 32), np.int32)
    held.mask(words)
    assert [n for n in range(size) if words[n // 32] >> (n % 32) & 1] == [0, 3]


def test_transformers_serves_with_products_that_are_settled(folders, monkeypatch):
    """On AMD's processors they took twice the time."""
    asked = []

    def refuses(*_, **__):
        raise Unsupported("a test")

    monkeypatch.setattr(batched_engine, "BatchedEngine", refuses)
    monkeypatch.setattr(machine, "settle_products", lambda: asked.append("settled"))
    monkeypatch.setattr(
        transformers_engine, "TransformersEngine", lambda *_: asked.append("loaded")
    )
    engine_of(folders["base"])
    assert asked == ["settled", "loaded"]


def test_what_cannot_be_opened_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match="is no model folder: it has no config"):
        bring(tmp_path / "nothing", tmp_path, Silent())
    source = shutil.copytree(base.parent / "source", tmp_path / "source")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model\\.bin would have to be unpickled"):
        bring(source, tmp_path, Silent())
    (source / "pytorch_model.bin").rename(source / "model.safetensors")
    (source / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="cannot be opened as a decoder"):
        bring(source, tmp_path, Silent())
