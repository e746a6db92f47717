"""Scores of label words, against plain transformers on one sequence at a time."""

import pytest
import torch
from transformers import AutoTokenizer

from components.adapters import answering, load_adapter
from components.adapters.encoding import answer_losses, as_text, encode, has_virtual_tokens, room
from components.adapters.fitting import Fitting
from components.adapters.task_data import TaskData
from components.evaluation.classification import classify, judge
from components.evaluation.subject import described
from components.lineage import read_json
from components.models import llama
from tests.tiny_models import ADAPTERS, block_of

PROMPTS = ["the film was a .", "the", "the plot was b . the cast was c and the film was d ."]
ONE_TOKEN, MANY_TOKENS = {"x": "a", "y": "b"}, {"x": " good film", "y": " bad"}


def expected(model, tokenizer, prompt: str, answer: str) -> float:
    """The mean log-probability of an answer's tokens, from one unpadded forward pass."""
    first = [] if has_virtual_tokens(model) else [tokenizer.bos_token_id]
    start = [*first, *tokenizer(prompt)["input_ids"]]
    target = tokenizer(answer)["input_ids"]
    ids = torch.tensor([[*start, *target]])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    logprobs = logits[-ids.shape[1] :].log_softmax(-1)  # without what stands for vectors in front
    places = range(len(start) - 1, len(start) - 1 + len(target))
    each = [float(logprobs[p, t]) for p, t in zip(places, target, strict=True)]
    return sum(each) / len(each)


@pytest.mark.parametrize("labels", [ONE_TOKEN, MANY_TOKENS])
@pytest.mark.parametrize("name", ["base", *(name for name in ADAPTERS if name != "head")])
def test_scores_are_those_of_each_sequence_alone(folders, name, labels):
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    model = llama.load(folders["base"])
    if name != "base":
        model = load_adapter(folders["base"], folders[name])
    scored = answering.scores(model, tokenizer, PROMPTS, labels)
    for prompt, scores in zip(PROMPTS, scored, strict=True):
        for label, answer in labels.items():
            alone = expected(model, tokenizer, prompt, answer)
            assert scores[label] == pytest.approx(alone, abs=2e-5)


def test_labels_of_one_token_share_a_forward_pass(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    batch = encode(llama.load(folders["base"]), tokenizer, ["the film"] * 2, ["a", "b"])
    assert batch.input_ids.shape[0] == 1
    assert batch.lengths == [1, 1]


def test_gradients_are_those_of_transformers_own_loss(folders):
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    ours, theirs = (llama.load(folders["base"]) for _ in range(2))
    batch = encode(ours, tokenizer, ["the film was"], [" good film"])
    answer_losses(ours, batch).mean().backward()
    start = [tokenizer.bos_token_id, *tokenizer("the film was")["input_ids"]]
    target = tokenizer(" good film")["input_ids"]
    ids = torch.tensor([[*start, *target]])
    labels = torch.tensor([[*[-100] * len(start), *target]])
    theirs(input_ids=ids, labels=labels).loss.backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine.grad, other.grad, atol=1e-6)


@pytest.mark.parametrize("name", ["soft_prompt", "p_tuning", "prefix"])
def test_a_prompt_too_long_loses_its_beginning_and_an_answer_too_long_is_refused(folders, name):
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    model = load_adapter(folders["base"], folders[name])
    limit = room(model)
    assert limit == 96 - 4
    words = "the film was a . " * 60
    batch = encode(model, tokenizer, [words], [" good"])
    answer = tokenizer(" good")["input_ids"]
    assert batch.input_ids.shape[1] == limit - 1
    kept = tokenizer(words)["input_ids"][-(limit - len(answer)) :]
    assert batch.input_ids[0].tolist() == [*kept, *answer[:-1]]
    with pytest.raises(ValueError, match="leaves no room in a context of 92 tokens"):
        encode(model, tokenizer, ["the"], [" good film" * 60])


def test_what_a_head_reads_is_counted_without_an_answer(folders):
    """A prompt that fitted to the token was said to have lost its beginning."""
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    counts = {}
    for name in ("head", "lora"):
        model = load_adapter(folders["base"], folders[name])
        fits = room(model) - 1  # behind the end of another document
        prompts = ["a" * length for length in range(1, 8 * fits)]
        full = next(p for p in prompts if len(as_text(tokenizer, p)) == fits)
        rows = [{"id": p, "prompt": p, "label": "good", "answer": " good"} for p in ("a", full)]
        subject = described(model, tokenizer, read_json(folders[name] / "adapter.json"))
        cut = [record["truncated"] for record in judge(subject, rows)]
        data = TaskData(tokenizer, subject.adapter["labels"], rows)
        block = block_of(ADAPTERS[name] | {"batch_size": 2})
        fitting = Fitting(subject.method, block, llama.load(folders["base"]), data, rows)
        counts[name] = cut, fitting._truncated()
    assert counts == {"head": ([False, False], 0), "lora": ([False, True], 1)}


def test_control_tokens_in_a_text_are_letters(folders):
    """A review that quotes `<|endoftext|>` once ended the document in training and evaluation."""
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    base = llama.load(folders["base"])
    batch = encode(base, tokenizer, ["a<|endoftext|> <|user|>"], [" <|assistant|>b"])
    read = [*batch.input_ids[0].tolist(), int(batch.targets[-1])]
    assert read[0] == tokenizer.bos_token_id
    assert not set(read[1:]) & tokenizer.added_tokens_decoder.keys()
    assert tokenizer.decode(read[1:]) == "a<|endoftext|> <|user|> <|assistant|>b"


@pytest.mark.parametrize("name", ["soft_prompt", "prefix"])
def test_an_empty_prompt_behind_virtual_tokens_is_refused(folders, name):
    """Its answer's first token was once predicted from the end of another row."""
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    model = load_adapter(folders["base"], folders[name])
    with pytest.raises(ValueError, match=r"the prompt before the answer ' good' is empty"):
        encode(model, tokenizer, ["the", ""], [" good"] * 2)
    assert encode(llama.load(folders["base"]), tokenizer, [""], [" good"]).lengths[0] >= 1


@pytest.mark.parametrize("name", ADAPTERS)
def test_probabilities_sum_to_one_and_order_does_not_matter(folders, name):
    texts = ["a", "the film was b", "c c c c c c"]
    model = load_adapter(folders["base"], folders[name])
    found = classify(model, folders["base"], folders[name], texts)
    assert [sum(p.values()) for p in found] == pytest.approx([1, 1, 1])
    back = classify(model, folders["base"], folders[name], texts[::-1])
    assert [p["good"] for p in back[::-1]] == pytest.approx([p["good"] for p in found], abs=1e-5)
