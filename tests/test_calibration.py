"""Probabilities: what a prompt favours taken out, and how far they can be trusted."""

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from transformers import AutoTokenizer

from components.adapters import METHODS
from components.evaluation import evaluate_adapter
from components.evaluation.calibration import BINS, calibration
from components.evaluation.classification import calibrated, classify, probabilities, score_prompts
from components.evaluation.subject import Subject
from components.lineage import read_json, read_jsonl, write_json
from components.models import llama
from components.reporter import Silent
from tests.tiny_models import signed


def records_of(confidence, correct):
    """Records of two labels, predicted with these probabilities."""
    made = []
    for number, (sure, right) in enumerate(zip(confidence, correct, strict=True)):
        scores = {"good": math.log(sure), "bad": math.log(1 - sure)}
        record = {"id": f"{number:04}", "label": "good" if right else "bad", "correct": bool(right)}
        made.append({**record, "prediction": "good", "scores": scores})
    return made


def test_the_error_is_that_of_a_case_worked_by_hand():
    """Four rows in the bin of 0.9, three of them right; one in that of 0.6, wrong."""
    told = calibration(records_of([0.9, 0.9, 0.9, 0.9, 0.65], [1, 1, 1, 0, 0]))
    assert told["ece"] == pytest.approx(4 / 5 * 0.15 + 1 / 5 * 0.65)
    assert told["confidence"] == pytest.approx((4 * 0.9 + 0.65) / 5)
    assert [one["count"] for one in told["bins"] if one["count"]] == [1, 4]


def test_bins_are_those_of_scikit_learn():
    draw = np.random.default_rng(0)
    confidence = draw.uniform(0.5, 0.999, 500)
    correct = draw.random(500) < confidence**2
    told = calibration(records_of(confidence, correct))
    right, sure = calibration_curve(correct, confidence, n_bins=BINS)
    used = [one for one in told["bins"] if one["count"]]
    assert [one["accuracy"] for one in used] == pytest.approx(right.tolist())
    assert [one["confidence"] for one in used] == pytest.approx(sure.tolist())
    weights = np.array([one["count"] for one in used]) / 500
    assert told["ece"] == pytest.approx(float((weights * abs(right - sure)).sum()))


def test_certainty_has_a_bin():
    certain = {"id": "1", "label": "good", "prediction": "good", "correct": True}
    told = calibration([{**certain, "scores": {"good": 0.0, "bad": -900.0}}])
    assert told["bins"][-1]["count"] == 1 and told["ece"] == 0


def test_what_says_nothing_is_equally_probable_after_calibration():
    blank = [{"good": -1.0, "bad": -3.0}]
    assert probabilities(calibrated(blank, blank)[0]) == pytest.approx({"good": 0.5, "bad": 0.5})


def test_calibration_divides_by_the_mean_of_the_blanks():
    """Zhao et al. 2021: p / p_cf, of two blanks with 0.8 and 0.6 for good."""
    blanks = [{"good": math.log(p), "bad": math.log(1 - p)} for p in (0.8, 0.6)]
    row = {"good": math.log(0.6), "bad": math.log(0.4)}
    found = probabilities(calibrated([row], blanks)[0])
    good, bad = 0.6 / 0.7, 0.4 / 0.3
    assert found == pytest.approx(
        {"good": good / (good + bad), "bad": bad / (good + bad)}, abs=1e-6
    )


@pytest.fixture
def calm(folders, tmp_path):
    """The adapter `zero_shot` with a content-free input."""
    described = read_json(folders["zero_shot"] / "adapter.json")
    described["settings"] |= {"content_free": ["N/A", ""]}
    folder = tmp_path / "calm"
    folder.mkdir()
    write_json(folder / "adapter.json", described)
    return signed(folder)


def test_a_prompt_design_is_calibrated_in_evaluation_and_serving_alike(folders, calm, tmp_path):
    figures = {}
    for name, folder in {"zero_shot": folders["zero_shot"], "calm": calm}.items():
        out = tmp_path / f"of_{name}"
        out.mkdir()
        evaluate_adapter(folder, folders["taste"], folders["base"], out, Silent())
        figures[name] = read_json(out / "metrics.json")
    assert figures["zero_shot"]["comparison_key"] == figures["calm"]["comparison_key"]
    assert figures["zero_shot"]["fingerprint"] != figures["calm"]["fingerprint"]
    model, rows = llama.load(folders["base"]), list(read_jsonl(folders["taste"] / "test.jsonl"))
    served = classify(model, folders["base"], calm, [row["text"] for row in rows])
    for record, probability in zip(
        read_jsonl(tmp_path / "of_calm/records.jsonl"), served, strict=True
    ):
        assert probabilities(record["scores"]) == pytest.approx(probability, abs=1e-5)


def test_the_blank_itself_is_a_tie(folders, calm):
    described = read_json(calm / "adapter.json")
    described["settings"]["content_free"] = ["N/A"]
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    asked = ["N/A it was"]
    subject = Subject(
        llama.load(folders["base"]), tokenizer, described, {}, METHODS[described["method"]]
    )
    (scores,) = score_prompts(subject, asked)
    assert probabilities(scores) == pytest.approx({"good": 0.5, "bad": 0.5}, abs=1e-5)
