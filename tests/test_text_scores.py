"""Scores of texts against sacreBLEU and by hand; scores of corpora and their intervals."""

import math

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from components.evaluation.compare import compare, difference
from components.evaluation.controls import evaluate_controls
from components.evaluation.generation import majority
from components.evaluation.language_model import figures_of
from components.evaluation.metrics import paired_difference, score_of, summarise
from components.evaluation.text_scores import (
    JUDGED,
    NORMALISERS,
    OF_SUMS,
    judge_texts,
    number,
    signature,
    squad,
    token_f1,
)
from components.evaluation.worst import by_steps, worst
from components.gate import Gate, decide
from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.metric_names import LOWER_IS_BETTER, METRICS
from components.reporter import Silent

REFERENCES = [
    "the green dog sees the old house",
    "a bird sings in the garden near the river",
    "nobody came",
    "he has 3 apples, and she has 4",
]
PREDICTIONS = [
    "the green dog sees the house",
    "a bird sings near the river in a garden",
    "",
    "he has 3 apples, and she has 4",
]


def test_every_metric_has_its_score():
    assert set(METRICS["generation"]) == set(JUDGED)
    assert set(METRICS["language_modelling"]) <= LOWER_IS_BETTER & set(OF_SUMS)


@pytest.mark.parametrize(("metric", "theirs"), [("bleu", BLEU), ("chrf", CHRF)])
def test_corpus_and_sentence_scores_are_sacrebleus(metric, theirs):
    records = judge_texts(metric, PREDICTIONS, REFERENCES, "squad")
    score, (low, high) = score_of(records, metric)
    corpus = theirs().corpus_score(PREDICTIONS, [REFERENCES]).score / 100
    assert score == pytest.approx(corpus, abs=1e-9)
    assert low <= score <= high and low < high
    sentence = BLEU(effective_order=True) if metric == "bleu" else CHRF()
    for record, said, wanted in zip(records, PREDICTIONS, REFERENCES, strict=True):
        alone = sentence.sentence_score(said, [wanted]).score / 100
        assert record["correct"] == pytest.approx(alone, abs=1e-9)
    assert records[2]["correct"] == 0 and records[3]["correct"] == pytest.approx(1)


def test_a_corpus_score_is_resampled_and_no_mean_of_sentences():
    """Each resample's score is that of the corpus it draws, which sacreBLEU confirms."""
    records = judge_texts("bleu", PREDICTIONS, REFERENCES, "none")
    sums = np.array([records[n]["statistics"] for n in (0, 0, 1, 3)]).sum(0)
    again = [[PREDICTIONS[n] for n in (0, 0, 1, 3)], [REFERENCES[n] for n in (0, 0, 1, 3)]]
    expected = BLEU().corpus_score(again[0], [again[1]]).score / 100
    assert float(OF_SUMS["bleu"](sums)) == pytest.approx(expected, abs=1e-9)
    score, _ = score_of(records, "bleu")
    assert score != pytest.approx(np.mean([record["correct"] for record in records]), abs=0.01)


def test_signatures_name_the_version():
    assert signature("bleu").endswith("|version:2.6.0") and "tok:13a" in signature("bleu")
    assert "nc:6" in signature("chrf") and signature("f1") is None


def test_token_f1_by_hand():
    """'cat sat on mat' and 'cat sat there': 2 of 4 and 2 of 3, so 2 x 1/2 x 2/3 / (7/6) = 4/7."""
    assert token_f1(squad("The cat sat on a mat."), squad("A cat sat there!")) == pytest.approx(
        4 / 7
    )
    assert token_f1("", "") == 1 and token_f1("a", "") == 0 and token_f1("x", "y") == 0
    assert token_f1("so so", "so") == pytest.approx(2 / 3)  # a word counts as often as it stands


@pytest.mark.parametrize(
    ("rule", "one", "other", "same"),
    [
        ("squad", "The U.S. army,  an army", "us army army", True),
        ("squad", "-5", "5", True),  # why numbers have a rule of their own
        ("number", "-5", "5", False),
        ("number", "$1,000.0", "1000", True),
        ("number", "3.50", "3.5", True),
        ("number", "3.5", "35", False),
        ("number", "-0", "0", True),
        ("number", " ten ", "ten", True),
        ("number", "nan", "nan", True),
        ("number", "-$5.", "$-5", True),
        ("number", "1e3", "1,000", True),
        ("number", ".5%", "0.50", True),
        ("number", "1 2", "12", False),  # two numbers
        ("number", "1,5", "15", False),  # of a language with a decimal comma
        ("number", f"{'7' * 30}1", f"{'7' * 30}2", False),  # arithmetic rounds to 28 digits
        ("number", f"{'7' * 30}10", f"{'7' * 30}1.0e1", True),
        ("number", ".", "", False),
        ("squad", "A", "a.", True),  # of a multiple choice
        ("squad", "A", "", False),  # nothing is left of it by SQuAD's script, as of no answer
        ("squad", "-", "", False),
        ("squad", "-", "+", False),
        ("squad", "", " ", True),
        ("none", " x ", "x", True),
        ("none", "X", "x", False),
    ],
)
def test_normalised_answers(rule, one, other, same):
    assert (NORMALISERS[rule](one) == NORMALISERS[rule](other)) is same


@pytest.mark.parametrize("said", ["1e9999999", "-1E999999", "9e-99999999999999999999", "1" * 500])
def test_a_number_out_of_bounds_ends_nothing_and_takes_no_memory(said):
    """The first once ended an evaluation with decimal.Overflow, the second was a megabyte long."""
    (record,) = judge_texts("exact_match", [said], ["1"], "number")
    assert record["correct"] == 0
    assert len(number(said)) <= len(said) + 2


@pytest.mark.parametrize("metric", ["exact_match", "f1"])
def test_nothing_is_no_answer_to_a_multiple_choice(metric):
    """SQuAD's script takes the article out of `A`, and then an empty prediction was right."""
    judged = judge_texts(metric, ["", "A", "the", "(A)", "B"], ["A"] * 5, "squad")
    assert [record["correct"] for record in judged] == [0, 1, 0, 1, 0]


def test_most_samples_decide_and_of_equals_the_first():
    assert majority(["7", "12", "12.0"], number) == ("12", {"7": 1, "12": 2})
    assert majority(["3", "4"], number)[0] == "3"
    assert majority([], number) == ("", {})


def texts_of(nats, size=10, words=2):
    return [
        {"id": f"{n:03}", "label": "", "prediction": "", "correct": math.exp(-value / size)}
        | {"statistics": [value, float(size + n), float(words)]}
        for n, value in enumerate(nats)
    ]


def test_perplexity_per_word_is_bits_per_byte_in_another_unit():
    records = texts_of([11.0, 14.5, 9.0])
    bits, _ = score_of(records, "bits_per_byte")
    perplexity, _ = score_of(records, "word_perplexity")
    size, words = 10 + 11 + 12, 6
    assert bits == pytest.approx(34.5 / math.log(2) / size)
    assert perplexity == pytest.approx(2 ** (bits * size / words))


def test_paragraphs_without_a_space_have_finite_figures():
    """Such a "word" costs thousands of nats: an OverflowError, or infinity, which no file takes."""
    score, interval = score_of(texts_of([9000.0, 12000.0], words=1), "word_perplexity")
    assert np.isfinite([score, *interval]).all()
    record = {"nats": 9000.0, "tokens": 2000, "bytes": 6000, "words": 1}
    assert set(figures_of([record])) == {"bits_per_byte", "nats_per_token"}
    spoken = figures_of([record | {"words": 3000}])
    assert spoken["perplexity_per_word"] == pytest.approx(math.exp(3))


def write_texts(folder, nats, metric="bits_per_byte"):
    folder.mkdir()
    records = texts_of(nats)
    write_jsonl(folder / "records.jsonl", records)
    figures = summarise(records, "test", [], metric, {}, "tokenizer", {})
    write_json(folder / "metrics.json", figures)
    return folder


@pytest.mark.parametrize("metric", METRICS["language_modelling"])
def test_where_lower_is_better_a_difference_above_zero_is_still_better(tmp_path, metric):
    nats = [10.0 + n % 3 for n in range(60)]
    worse = write_texts(tmp_path / "worse", nats, metric)
    better = write_texts(tmp_path / "better", [value - 2 for value in nats], metric)
    mean, low, high = difference(better, worse)
    scores = [read_json(folder / "metrics.json")["score"] for folder in (worse, better)]
    assert mean == pytest.approx(scores[0] - scores[1]) and 0 < low < mean < high
    assert difference(worse, better)[2] < 0
    rows = compare({"worse": worse, "better": better})
    assert rows[1]["interval"] == read_json(better / "metrics.json")["interval"]
    gate = Gate(maximum=max(scores) * 0.95, baseline="worse")
    assert decide(gate, better, worse, None).promoted
    assert decide(gate, better, worse, None).reasons[0].startswith(f"{metric} {scores[1]:.3f} ≤ ")
    refused = decide(gate, worse, better, None)
    assert not refused.promoted and " > " in refused.reasons[0]


def test_pairs_of_corpora_are_resampled_together():
    """b's corpus is a's with one word more wrong in each text: surely worse, though it is noisy."""
    texts = [f"{REFERENCES[n % 4]} {n}" for n in range(80)]
    a = judge_texts("bleu", [text.replace("the", "one", 1) for text in texts], texts, "none")
    b = judge_texts("bleu", [text.replace("a", "o") for text in texts], texts, "none")
    sides = [[record["statistics"] for record in side] for side in (a, b)]
    mean, low, high = paired_difference(*sides, score=OF_SUMS["bleu"])
    scores = [score_of(side, "bleu")[0] for side in (a, b)]
    assert mean == pytest.approx(scores[0] - scores[1]) and 0 < low < mean < high
    assert paired_difference(sides[0], sides[0], score=OF_SUMS["bleu"]) == (0.0, 0.0, 0.0)


def test_scores_by_steps():
    records = [{"correct": n % 2 == 0, "steps": 1 + n // 4} for n in range(8)]
    records[4]["correct"] = False
    found = by_steps(records, "exact_match")
    assert {steps: (group["score"], group["n"]) for steps, group in found.items()} == {
        "1": (0.5, 4),
        "2": (0.25, 4),
    }
    assert by_steps([{"correct": 1}], "f1") == {}


def test_the_worst_are_the_surest_mistakes():
    rows = [{"answer": " good"} for _ in range(4)]
    scores = [(-1.0, -0.2), (-0.1, -2.0), (-3.0, -0.1), (-0.5, -0.4)]
    records = [
        {"id": str(n), "label": "good", "prediction": "good" if good > bad else "bad"}
        | {"correct": good > bad, "scores": {"good": good, "bad": bad}}
        for n, (good, bad) in enumerate(scores)
    ]
    found = worst([f"prompt {n}" for n in range(4)], rows, records)
    assert [entry["id"] for entry in found] == ["2", "0", "3"]  # 1 is right, and no example
    assert found[0]["prompt"] == "prompt 2" and found[0]["certainty"] == pytest.approx(2.9)


def write_task(folder, kind, metric):
    folder.mkdir()
    for split, count in (("train", 40), ("validation", 4), ("test", 12)):
        rows = []
        for n in range(count):
            text = f"{('red', 'blue', 'green')[n % 3]} thing {n % 7}"
            answer = f" it is {text}" if n % 2 else " nothing"
            rows.append({"id": f"{split}{n}", "prompt": text, "text": text, "answer": answer})
            rows[-1]["label"] = answer.strip() if kind == "generation" else ""
        write_jsonl(folder / f"{split}.jsonl", rows)
    task = {"name": folder.name, "kind": kind, "metric": metric, "labels": {}, "normalise": "squad"}
    write_json(folder / "task.json", task)
    return folder


@pytest.mark.parametrize("metric", METRICS["generation"])
def test_controls_of_generation_are_a_frequent_answer_and_a_near_one(tmp_path, metric):
    task, out = write_task(tmp_path / "things", "generation", metric), tmp_path / "out"
    out.mkdir()
    scores = evaluate_controls(task, out, Silent())
    figures = read_json(out / "metrics.json")
    assert figures["majority"]["label"] == "nothing"
    assert figures["majority"]["title"] == "most frequent answer"
    if metric == "exact_match":
        assert scores["majority"] == pytest.approx(0.5)
    records = list(read_jsonl(out / "records.jsonl"))
    train = list(read_jsonl(task / "train.jsonl"))
    known = {(row["text"], row["label"]) for row in train}
    asked = [row["text"] for row in read_jsonl(task / "test.jsonl")]
    assert all((text, r["tfidf"]) in known for text, r in zip(asked, records, strict=True))
    assert figures["tfidf"]["interval"][0] <= scores["tfidf"] <= figures["tfidf"]["interval"][1]
    rows = [row | {"correct": 1.0} for row in read_jsonl(task / "test.jsonl")]
    theirs = summarise(rows, "test", [], "exact_match", {}, "tokenizer", {"normalise": "squad"})
    same = figures["tfidf"]["comparison_key"] == theirs["comparison_key"]
    assert same is (metric == "exact_match")  # the key of adapters judged alike


def test_controls_of_texts_know_no_rule_for_answers(tmp_path):
    task, out = write_task(tmp_path / "t", "language_modelling", "bits_per_byte"), tmp_path / "out"
    out.mkdir()
    evaluate_controls(task, out, Silent())
    rows = [
        row | {"correct": 1.0, "statistics": [1, 1, 1]} for row in read_jsonl(task / "test.jsonl")
    ]
    theirs = summarise(rows, "test", [], "bits_per_byte", {}, "tokenizer", {"score": "nats"})
    assert read_json(out / "metrics.json")["bytes"]["comparison_key"] == theirs["comparison_key"]


def test_controls_of_language_modelling_count_bytes(tmp_path):
    task, out = write_task(tmp_path / "t", "language_modelling", "bits_per_byte"), tmp_path / "out"
    out.mkdir()
    scores = evaluate_controls(task, out, Silent())
    assert 0 < scores["byte_pairs"] < scores["bytes"] < 8
    counts = np.ones(256)
    for row in read_jsonl(task / "train.jsonl"):
        np.add.at(counts, np.frombuffer(row["answer"].encode() + b"\0", np.uint8), 1)
    share = counts / counts.sum()
    test = [row["answer"].encode() for row in read_jsonl(task / "test.jsonl")]
    bits = sum(-np.log2(share[np.frombuffer(t + b"\0", np.uint8)]).sum() for t in test)
    assert scores["bytes"] == pytest.approx(bits / sum(map(len, test)), abs=1e-4)
