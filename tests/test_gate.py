"""The gate's truth table: what is promoted, what is refused, and what the reasons say."""

import json

import pytest
from pydantic import ValidationError

from components.gate import Gate, decide
from components.lineage import write_json, write_jsonl

GATE = Gate(minimum=0.6, baseline="zero_shot")


def evaluation(folder, score, key="key", n=200):
    """An evaluation folder of `n` examples of which the first `score` parts are correct."""
    folder.mkdir(parents=True)
    correct = [number < round(score * n) for number in range(n)]
    rows = [{"id": f"{number:04}", "correct": right} for number, right in enumerate(correct)]
    write_jsonl(folder / "records.jsonl", rows)
    figures = {"metric": "accuracy", "score": sum(correct) / n, "comparison_key": key}
    write_json(folder / "metrics.json", figures)
    return folder


@pytest.mark.parametrize(
    ("candidate", "baseline", "champion", "promoted"),
    [
        (0.80, 0.50, None, True),  # enough, and better than the prompt alone
        (0.60, 0.50, None, True),  # the minimum itself is enough
        (0.59, 0.40, None, False),  # better, but too low
        (0.80, 0.80, None, False),  # no better than the prompt
        (0.80, 0.79, None, False),  # better, but the interval touches zero
        (0.80, 0.90, None, False),  # worse
        (0.80, 0.50, 0.70, True),  # better than both
        (0.80, 0.50, 0.80, False),  # as good as the champion
        (0.80, 0.50, 0.90, False),  # worse than the champion
        (0.80, 0.80, 0.70, False),  # better than a champion that the prompt has overtaken
        (0.40, 0.50, 0.60, False),  # nothing holds
    ],
)
def test_truth_table(tmp_path, candidate, baseline, champion, promoted):
    rivals = evaluation(tmp_path / "b", baseline), champion and evaluation(tmp_path / "c", champion)
    decision = decide(GATE, evaluation(tmp_path / "a", candidate), *rivals)
    assert decision.promoted is promoted
    assert len(decision.reasons) == (3 if champion else 2)
    assert set(decision.differences) == {"zero_shot"} | ({"champion"} if champion else set())


def test_reasons_give_the_numbers_of_every_criterion(tmp_path):
    a, b, c = (evaluation(tmp_path / name, s) for name, s in (("a", 0.8), ("b", 0.6), ("c", 0.795)))
    decision = decide(GATE, a, b, c)
    mean, low, high = decision.differences["zero_shot"]
    assert mean == pytest.approx(0.2)
    assert decision.reasons[:2] == (
        "accuracy 0.800 ≥ 0.6",
        f"+0.200 [{low:.3f}, {high:.3f}] over zero_shot",
    )
    assert decision.reasons[2].startswith("not better than the champion: +0.005 [0.000, ")
    refused = decide(Gate(minimum=0.95, baseline="zero_shot"), a, b, None)
    assert refused.reasons[0] == "accuracy 0.800 < 0.95"


def test_a_record_keeps_the_gates_word_its_reasons_and_the_numbers(tmp_path):
    decision = decide(GATE, evaluation(tmp_path / "a", 0.8), evaluation(tmp_path / "b", 0.6), None)
    kept = json.loads(json.dumps(decision.record("k")))
    assert kept == decision.record("k")  # or an unchanged decision would be written again and again
    assert kept["differences"] == {"zero_shot": list(decision.differences["zero_shot"])}
    assert kept["passed"] is kept["promoted"] is True
    assert kept["summary"] == f"promoted: {'; '.join(decision.reasons)}"


def test_confidence_decides(tmp_path):
    """Three more right of 200: sure at 80 %, not at 99 %."""
    a, b = evaluation(tmp_path / "a", 0.815), evaluation(tmp_path / "b", 0.8)
    for confidence, promoted in ((0.8, True), (0.99, False)):
        gate = Gate(minimum=0.6, baseline="zero_shot", confidence=confidence)
        assert decide(gate, a, b, None).promoted is promoted


def test_another_comparison_key_is_refused(tmp_path):
    a, b = evaluation(tmp_path / "a", 0.8, "a" * 64), evaluation(tmp_path / "b", 0.5, "b" * 64)
    with pytest.raises(ValueError, match=f"key {'a' * 12}.*key {'b' * 12}.*dvc repro"):
        decide(GATE, a, b, None)
    champion = evaluation(tmp_path / "c", 0.5, "c" * 64)
    with pytest.raises(ValueError, match=f"key {'c' * 12}"):
        decide(GATE, a, evaluation(tmp_path / "d", 0.5, "a" * 64), champion)


def test_a_missing_evaluation_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere has no metrics"):
        decide(GATE, evaluation(tmp_path / "a", 0.8), tmp_path / "nowhere", None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"minimum": 1.5},
        {"minimum": -0.1},
        {"maximum": 1.0},
        {"minimum": None},
        {"confidence": 0.5},
        {"confidence": 1},
    ],
)
def test_impossible_gates_are_refused(wrong):
    with pytest.raises(ValidationError):
        Gate(**{"minimum": 0.6, "baseline": "zero_shot"} | wrong)
