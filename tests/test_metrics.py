"""Scores, intervals, and what may be compared with what."""

import numpy as np
import pytest
from scipy import stats

from components.evaluation.compare import compare
from components.evaluation.controls import evaluate_controls
from components.evaluation.metrics import (
    aligned,
    bootstrap_interval,
    comparison_key,
    confusion,
    fingerprint,
    paired_difference,
    score_of,
    summarise,
)
from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.reporter import Silent

LABELS = ["bad", "good"]
PROMPT = {"name": "p", "template": "{{text}} is", "answer": {"bad": " bad", "good": " good"}}


def records_of(correct):
    """One record for each of `correct`, its label and prediction made to fit."""
    records = []
    for number, right in enumerate(correct):
        label = LABELS[number % 2]
        guess = label if right else LABELS[1 - number % 2]
        record = {"id": f"{number:012x}", "label": label, "prediction": guess}
        records.append({**record, "correct": bool(right), "scores": {}})
    return records


def write_evaluation(folder, correct, labels=LABELS):
    """An evaluation folder, as `evaluate_adapter` leaves it."""
    folder.mkdir(parents=True)
    records = records_of(correct)
    write_jsonl(folder / "records.jsonl", records)
    figures = summarise(records, "test", labels, "accuracy", PROMPT, "tokenizer", {})
    write_json(folder / "metrics.json", figures)
    return folder


@pytest.mark.parametrize("values", [[0, 1, 1] * 60, list(np.random.default_rng(3).normal(size=90))])
def test_interval_agrees_with_scipy(values):
    reference = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    found = bootstrap_interval(values, resamples=20_000)
    assert found == pytest.approx((reference.low, reference.high), abs=0.01)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    draw = np.random.default_rng(0)
    samples = draw.random((200, 100)) < 0.7
    intervals = [bootstrap_interval(sample, resamples=500) for sample in samples]
    covered = np.mean([low <= 0.7 <= high for low, high in intervals])
    assert 0.88 <= covered <= 0.99


def test_interval_is_a_function_of_its_arguments():
    values = [0, 1, 1, 0, 1]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    narrow, wide = bootstrap_interval(values * 20, 0.5), bootstrap_interval(values * 20, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert bootstrap_interval([1.0]) == (1.0, 1.0)


def test_interval_refuses_nothing_and_names_a_wrong_confidence():
    with pytest.raises(ValueError, match=r"\(0,\)"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="95"):
        bootstrap_interval([1.0], confidence=95)


def test_pairing_tells_apart_what_intervals_alone_cannot():
    """b errs where a errs, and a little more: their own intervals overlap."""
    a = [1.0] * 70 + [0.0] * 30
    b = [1.0] * 62 + [0.0] * 38
    assert bootstrap_interval(a)[0] < bootstrap_interval(b)[1]
    mean, low, high = paired_difference(a, b)
    assert mean == pytest.approx(0.08)
    assert 0 < low < mean < high
    assert paired_difference(a, a) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="100 and 1"):
        paired_difference(a, [1.0])


def test_confusion_counts_truth_by_row():
    found = confusion(LABELS, ["bad", "bad", "good"], ["bad", "good", "good"])
    assert found == {"labels": LABELS, "matrix": [[1, 1], [0, 1]]}
    with pytest.raises(ValueError, match="'fine' is none of the labels bad, good"):
        confusion(LABELS, ["bad"], ["fine"])


def test_comparison_key_is_of_the_examples_not_of_their_order():
    rows = records_of([1, 0, 1])
    key = comparison_key(rows, "test", LABELS, "accuracy", None)
    assert comparison_key(rows[::-1], "test", LABELS[::-1], "accuracy", None) == key
    relabelled = [{**rows[0], "label": "good"}, *rows[1:]]
    others = [
        comparison_key(rows[:2], "test", LABELS, "accuracy", None),
        comparison_key(relabelled, "test", LABELS, "accuracy", None),
        comparison_key(rows, "validation", LABELS, "accuracy", None),
        comparison_key(rows, "test", [*LABELS, "fine"], "accuracy", None),
        comparison_key(rows, "test", LABELS, "exact_match", None),
    ]
    assert len({key, *others}) == 6


def test_results_that_call_other_answers_equal_are_not_compared():
    """A gate once held a candidate judged by `none` against a champion judged by `squad`."""
    records = [{"id": "a", "label": "The 5", "prediction": "5", "correct": True}]

    def key(**decoding):
        asked = {"max_new_tokens": 8, "normalise": "squad", "temperature": 0.0} | decoding
        figures = summarise(records, "test", [], "exact_match", PROMPT, "t", asked)
        return figures["comparison_key"]

    assert key() != key(normalise="none")
    assert key(temperature=1.0) == key(max_new_tokens=64) == key()  # of direct and worked answers


def test_comparison_key_changes_with_the_metric_code(monkeypatch, tmp_path):
    rows = records_of([1])
    key = comparison_key(rows, "test", LABELS, "accuracy", None)
    (tmp_path / "metrics.py").write_text("# other code")
    monkeypatch.setattr("components.evaluation.metrics.__file__", str(tmp_path / "metrics.py"))
    assert comparison_key(rows, "test", LABELS, "accuracy", None) != key


def test_fingerprint_knows_wording_and_shots_but_not_the_name():
    first = fingerprint("key", PROMPT, "tokenizer", {})
    assert fingerprint("key", PROMPT | {"name": "renamed"}, "tokenizer", {}) == first
    others = [
        fingerprint("other", PROMPT, "tokenizer", {}),
        fingerprint("key", PROMPT | {"template": "{{text}}:"}, "tokenizer", {}),
        fingerprint("key", PROMPT | {"shot_texts": ["A is good", "B is bad"]}, "tokenizer", {}),
        fingerprint("key", PROMPT | {"shot_texts": ["B is bad", "A is good"]}, "tokenizer", {}),
        fingerprint("key", PROMPT, "another", {}),
        fingerprint("key", PROMPT, "tokenizer", {"temperature": 1}),
    ]
    assert len({first, *others}) == 7


def test_summary_holds_what_the_format_promises():
    figures = summarise(records_of([1, 1, 0, 1]), "test", LABELS, "accuracy", PROMPT, "t", {})
    assert (figures["score"], figures["n"], figures["split"]) == (0.75, 4, "test")
    assert figures["confusion"]["matrix"] == [[1, 1], [0, 2]]
    low, high = figures["interval"]
    assert low <= 0.75 <= high
    with pytest.raises(ValueError, match="split 'test'"):
        summarise([], "test", LABELS, "accuracy", PROMPT, "t", {})


def test_free_text_has_no_confusion():
    records = [{"id": "a", "label": "anything", "prediction": "else", "correct": False}]
    figures = summarise(records, "test", [], "exact_match", PROMPT, "t", {})
    assert figures["confusion"] == {"labels": [], "matrix": []}


def test_aligned_goes_by_id():
    records = records_of([1, 0, 0])
    assert aligned(records, records[::-1]) == ([1.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="000000000002"):
        aligned(records, records[:2])
    with pytest.raises(ValueError, match="two records have the id 000000000000"):
        aligned([records[0], *records], records)


def test_compare_states_differences_to_the_first(tmp_path):
    plain = write_evaluation(tmp_path / "plain", [1, 0, 0, 1] * 20)
    better = write_evaluation(tmp_path / "better", [1, 1, 0, 1] * 20)
    rows = compare({"plain": plain, "better": better})
    assert [row["name"] for row in rows] == ["plain", "better"]
    assert rows[0]["difference"] is None
    mean, low, high = rows[1]["difference"]
    assert mean == pytest.approx(0.25) and 0 < low < high
    assert rows[1]["interval"] == read_json(better / "metrics.json")["interval"]


def test_results_on_other_examples_are_refused(tmp_path):
    one = write_evaluation(tmp_path / "one", [1, 0] * 5)
    other = write_evaluation(tmp_path / "other", [1, 0] * 6)
    keys = [read_json(folder / "metrics.json")["comparison_key"] for folder in (one, other)]
    with pytest.raises(ValueError, match="dvc repro") as caught:
        compare({"one": one, "other": other})
    for part in (str(one), str(other), keys[0][:12], keys[1][:12]):
        assert part in str(caught.value)


def test_compare_names_what_is_no_evaluation(tmp_path):
    with pytest.raises(ValueError, match="absent has no metrics"):
        compare({"a": tmp_path / "absent"})
    write_json(tmp_path / "metrics.json", {"bits_per_byte": 1.0})
    with pytest.raises(ValueError, match="judges no examples"):
        compare({"base": tmp_path})
    with pytest.raises(ValueError, match="name at least one"):
        compare({})


def write_task(folder):
    """Words tell the label in two thirds of the texts; `bad` is the majority."""
    folder.mkdir(parents=True)
    for split, count in (("train", 60), ("validation", 15), ("test", 30)):
        rows = []
        for number in range(count):
            label = "good" if number % 5 < 2 else "bad"
            word = {"good": "lovely", "bad": "dull"}[label] if number % 3 else "some"
            text = f"a {word} film, number {number} of {split}"
            rows.append({"id": f"{split}{number}", "label": label, "text": text})
        write_jsonl(folder / f"{split}.jsonl", rows)
    answers = {"bad": " bad", "good": " good"}
    task = {"name": folder.name, "kind": "classification", "metric": "accuracy", "labels": answers}
    write_json(folder / "task.json", task)
    return folder


def test_controls_are_judged_on_the_same_examples_as_adapters(tmp_path):
    task, out = write_task(tmp_path / "films"), tmp_path / "out"
    out.mkdir()
    scores = evaluate_controls(task, out, Silent())
    assert scores["majority"] == pytest.approx(0.6)
    assert 0.8 <= scores["tfidf"] <= 1
    figures = read_json(out / "metrics.json")
    assert figures["tfidf"]["score"] == scores["tfidf"] and figures["tfidf"]["n"] == 30
    low, high = figures["majority"]["interval"]
    assert low < 0.6 < high
    rows = list(read_jsonl(task / "test.jsonl"))
    key = comparison_key(rows, "test", LABELS, "accuracy", None)
    assert figures["majority"]["comparison_key"] == key
    records = list(read_jsonl(out / "records.jsonl"))
    assert {r["majority"] for r in records} == {"bad"} and len(records) == 30


def test_controls_give_the_same_bytes_twice(tmp_path):
    task = write_task(tmp_path / "films")
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        evaluate_controls(task, tmp_path / name, Silent())
        files.append([p.read_bytes() for p in sorted((tmp_path / name).iterdir())])
    assert files[0] == files[1]


def test_controls_refuse_what_has_no_classes(tmp_path):
    task = write_task(tmp_path / "stories")
    write_jsonl(task / "train.jsonl", [{"id": "1", "label": "bad", "text": "dull"}])
    with pytest.raises(ValueError, match="have 1 labels"):
        evaluate_controls(task, tmp_path, Silent())


@pytest.mark.parametrize("correct", [0, 1])
def test_where_all_agree_the_interval_is_the_exact_one(correct):
    records = [{"correct": correct}] * 509
    score, found = score_of(records, "accuracy")
    exact = stats.binomtest(509 * correct, 509).proportion_ci(0.95, "exact")
    assert score == correct
    assert found == pytest.approx([exact.low, exact.high])
