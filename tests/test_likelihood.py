"""Likelihoods of many answers at once, against each sequence read alone by plain transformers."""

import pytest
import torch
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

from components.adapters import load_adapter
from components.adapters.encoding import Pair, pairs_of
from components.adapters.likelihood import score_answers, score_pairs
from components.models import llama
from tests.tiny_models import ADAPTERS

SHOTS = "the plot was a . it was good\n\nthe cast was b . it was bad\n\n"
PROMPTS = [
    f"{SHOTS}the {rest} it was"
    for rest in ("film was c .", "plot was d . the film was e .", "cast was h .", "film was f .")
]
ANSWERS = [" good", " bad film", " b", " good"]


def model_of(folders, name):
    if name == "base":
        return llama.load(folders["base"])
    return load_adapter(folders["base"], folders[name])


def alone(model, pair: Pair, virtual: int) -> tuple[list[float], bool]:
    """From one unpadded forward pass: the target's log-probabilities, whether it is greedy."""
    ids = torch.tensor([[*pair.start, *pair.target]])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, virtual:]
    at = logits[len(pair.start) - 1 : -1].log_softmax(-1)  # (target, vocabulary)
    target = torch.tensor(pair.target)
    each = at.gather(1, target[:, None])[:, 0].tolist()
    return each, bool((at.argmax(-1) == target).all())


def tokens_read(model) -> list[int]:
    """Fills up with the positions that the model reads, padding included."""
    read: list[int] = []
    inner = model.get_input_embeddings()
    inner.register_forward_pre_hook(lambda _, given: read.append(given[0].numel()))
    return read


@pytest.mark.parametrize("name", ["base", *(name for name in ADAPTERS if name != "head")])
@pytest.mark.parametrize("prompts", [PROMPTS, [p.removeprefix(SHOTS) for p in PROMPTS]])
def test_the_same_as_each_sequence_alone(folders, name, prompts):
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    model = model_of(folders, name)
    found = score_answers(model, tokenizer, prompts, ANSWERS)
    pairs = pairs_of(model, tokenizer, prompts, ANSWERS)
    for one, pair in zip(found, pairs, strict=True):
        each, greedy = alone(model, pair, 4 if name in ("soft_prompt", "p_tuning") else 0)
        assert one.logprobs == pytest.approx(each, abs=1e-5)
        assert one.greedy == greedy


@pytest.mark.parametrize("name", ["base", "lora", "soft_prompt"])
def test_a_shared_beginning_is_read_once(folders, name):
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    model = model_of(folders, name)
    pairs = pairs_of(model, tokenizer, PROMPTS, ANSWERS)
    read = tokens_read(model)
    score_pairs(model, tokenizer, pairs)
    shots = len(tokenizer(SHOTS)["input_ids"])
    everything = sum(len(start) + len(target) - 1 for start, target in pairs)
    assert sum(read) < everything - (len(pairs) - 2) * shots


def test_prompts_that_lost_their_beginning_are_read_alone(folders):
    """They continue nothing that the others begin with."""
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    model = model_of(folders, "lora")
    prompts = [*PROMPTS, SHOTS + "the film was a . " * 40]
    answers = [*ANSWERS, " bad"]
    pairs = pairs_of(model, tokenizer, prompts, answers)
    assert pairs[-1].start[:12] != pairs[0].start[:12]
    for one, pair in zip(score_pairs(model, tokenizer, pairs), pairs, strict=True):
        assert one.logprobs == pytest.approx(alone(model, pair, 0)[0], abs=1e-5)


def test_batches_do_not_change_the_order(folders, monkeypatch):
    monkeypatch.setattr("components.adapters.likelihood.ROWS", 2)
    monkeypatch.setattr("components.adapters.likelihood.PAST_BYTES", 1)
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    model = model_of(folders, "base")
    prompts, answers = PROMPTS * 3, ANSWERS * 3
    found = score_answers(model, tokenizer, prompts, answers)
    for one, pair in zip(found, pairs_of(model, tokenizer, prompts, answers), strict=True):
        assert one.logprobs == pytest.approx(alone(model, pair, 0)[0], abs=1e-5)


def test_a_model_that_keeps_less_than_all_keys_reads_each_row_whole(folders):
    """A window that slides has dropped keys of the beginning, which no row could continue."""
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=96, sliding_window=6,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    pairs = pairs_of(model, tokenizer, PROMPTS, ANSWERS)
    for one, pair in zip(score_pairs(model, tokenizer, pairs), pairs, strict=True):
        assert one.logprobs == pytest.approx(alone(model, pair, 0)[0], abs=1e-5)


def test_nothing_gives_nothing(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    assert score_answers(model_of(folders, "base"), tokenizer, [], []) == []


@pytest.mark.parametrize("shared", [True, False])
def test_a_prefix_of_keys_and_values_is_shared_too(folders, shared):
    """Even alone, where prompts have nothing else in common: no token can be read from it."""
    from peft import PrefixTuningConfig, get_peft_model

    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    torch.manual_seed(0)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=9)
    model = get_peft_model(llama.load(folders["base"]), config).eval()
    prompts = PROMPTS if shared else [p.removeprefix(SHOTS + "the ") for p in PROMPTS]
    pairs = pairs_of(model, tokenizer, prompts, ANSWERS)
    read = tokens_read(model)
    found = score_pairs(model, tokenizer, pairs)
    assert sum(read) < sum(len(start) for start, _ in pairs) or not shared
    for one, pair in zip(found, pairs, strict=True):
        assert one.logprobs == pytest.approx(alone(model, pair, 0)[0], abs=1e-5)
