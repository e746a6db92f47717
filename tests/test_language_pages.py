"""What the page of n-gram, RNN and LSTM says, from measures written by hand."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.ladder.block import Rung
from components.ladder.climb import Climb
from components.lineage import read_json, write_json
from components.report.ladder import neural
from components.training.checkpoint import WORKED
from flows import climbing, evidence

MODELS = {
    "ngram": {"family": "ngram", "order": 3, "width": 8, "hidden": 8, "context": 8},
    "lstm": {"family": "lstm", "layers": 1, "width": 8, "context": 8},
}
FIGURE = {"score": 2.0, "interval": [1.5, 2.5]}


def climb_of(place: Path, parameters: dict[str, int]) -> Climb:
    rungs = {}
    for name, model in MODELS.items():
        block = {"corpus": "c", "vocabulary": "v", "model": model}
        rungs[name] = Rung.model_validate({**block, "training": {"learning_rate": 0.1}})
        trained, measures = place / "rungs" / f"{name}-1", place / "measures" / f"{name}-1"
        for folder in (trained, measures):
            folder.mkdir(parents=True)
        point = {"step": 10, "validation_loss": 3.0}
        about = {"history": [point], "tokens": 20_000, "parameters": parameters[name]}
        write_json(trained / "training.json", about)
        tried = [(0.01, 5.1), (0.02, 4.9), (0.3, None)]
        told = [
            {"learning_rate": rate, "validation_loss": loss, "chosen": rate == 0.02}
            for rate, loss in tried
        ]
        write_json(trained / "rates.json", told)
        judged = dict.fromkeys(("perplexity_per_word", "bits_per_byte", "perplexity_named"), FIGURE)
        counts = {"parameters": parameters[name], "tokens": 20_000, "unknown": 0.0}
        write_json(measures / "metrics.json", {**judged, **counts})
        far = [{"score": score, "interval": [score, score]} for score in (1.0, 0.5)]
        write_json(measures / "neighbours.json", {"king": [["queen", 0.5]]})
        write_json(measures / "reach.json", {"distances": [1, 2], "gradient": far, "memory": far})
    return Climb("ladder", place, rungs, 1, ())


@pytest.mark.parametrize(
    ("lstm", "said"), [(5000, "Each model has 5 k parameters"), (9000, "has 5 k to 9 k parameters")]
)
def test_whether_models_had_as_much_is_said_beside_their_order(tmp_path, lstm, said):
    page = neural.page(climb_of(tmp_path, {"ngram": 5000, "lstm": lstm}))
    (picture,) = [p for p in page.pictures if p.name == "language_perplexity"]
    assert said in picture.caption and "read 20 k tokens" in picture.caption
    # 6 x 5,000 x 20,000
    assert "ngram 600 MFLOPs" in page.cost
    assert {5000: "lstm 600 MFLOPs", 9000: "lstm 1.08 GFLOPs"}[lstm] in page.cost


def test_models_of_two_texts_are_not_compared(tmp_path):
    climb = climb_of(tmp_path, {"ngram": 5000, "lstm": 5000})
    other = climb.rungs["lstm"].model_copy(update={"corpus": "d"})
    page = neural.page(replace(climb, rungs={**climb.rungs, "lstm": other}))
    assert "The least perplexed on c is ngram: " in page.finding
    assert "The least perplexed on d is lstm: " in page.finding
    assert [row[1] for row in page.tables[0].rows] == ["c", "d"]
    assert "within one text alone" in page.tables[0].caption


def test_contexts_of_several_lengths_end_no_book(tmp_path):
    climb = climb_of(tmp_path, {"ngram": 5000, "lstm": 5000})
    far = [{"score": score, "interval": [score, score]} for score in (1.0, 0.5, 0.25)]
    longer = {"distances": [1, 2, 3], "gradient": far, "memory": far}
    write_json(tmp_path / "measures" / "ngram-1" / "reach.json", longer)
    assert "2 tokens back is left: ngram 0.5, lstm 0.5." in neural.page(climb).finding


def test_a_trainings_seconds_are_told_where_this_workspace_made_it(tmp_path):
    climb = climb_of(tmp_path, {"ngram": 5000, "lstm": 5000})
    page = neural.page(replace(climb, seconds={"lstm-1": 61.7}))
    assert "ngram 600 MFLOPs, lstm 600 MFLOPs in 62 s." in page.cost


def test_a_trainings_seconds_are_its_own_and_not_its_stages(monkeypatch):
    """A stage's are those of its last try, with the trials that it made or waited for."""
    results = {
        "language@lstm-1": {"seconds": 900.0, WORKED: 61.7},
        "language@lstm-2": {"seconds": 900.0, WORKED: None},
        "language@lstm-3": {},
    }
    monkeypatch.setattr(evidence, "result_of", lambda _workspace, stage: results[stage])
    catalogue = SimpleNamespace(
        ladders={"ladder": SimpleNamespace(rungs=["lstm"])},
        rungs={"lstm": SimpleNamespace(group="language")},
        seeds=3,
    )
    work = SimpleNamespace(catalogue=catalogue, name="ladder", workspace=None)
    assert climbing._seconds(work) == {"lstm-1": 61.7}


def test_the_learning_rates_that_were_tried_are_told_with_what_they_came_to(tmp_path):
    page = neural.page(climb_of(tmp_path, {"ngram": 5000, "lstm": 5000}))
    tried = "0.02 of 0.01 (5.100), 0.02 (4.900), 0.3 (diverged)"
    assert page.cost.endswith(
        f"Learning rates, the best of those tried: ngram {tried}; lstm {tried}."
    )


@pytest.mark.parametrize("known", [True, False])
def test_the_best_possible_is_told_where_the_text_has_a_grammar(tmp_path, known):
    climb = climb_of(tmp_path, {"ngram": 5000, "lstm": 5000})
    for name in MODELS if known else ["lstm"]:  # of one alone there is nothing to compare
        file = climb.measures(name)[0] / "metrics.json"
        write_json(file, {**read_json(file), "ratio": FIGURE})
    table = neural.page(climb).tables[0]
    assert ("nats, times the best possible" in table.head) == known
    assert ("the grammar that wrote the text" in table.caption) == known
    assert all(len(row) == len(table.head) for row in table.rows)


def test_every_language_model_is_asked_what_is_near_a_word(tmp_path):
    """The page of codes says that each later rung answers this; only embeddings did."""
    near = neural.page(climb_of(tmp_path, {"ngram": 5000, "lstm": 5000})).tables[1]
    assert near.head == ("near", "ngram", "lstm")
    assert near.rows == [["king", "queen", "queen"]]


@pytest.mark.parametrize(("score", "told"), [(2.4, True), (4.0, False)])
def test_the_best_is_said_to_be_so_only_where_intervals_do_not_meet(tmp_path, score, told):
    """Of two that differ by chance the page named a winner."""
    climb = climb_of(tmp_path, {"ngram": 5000, "lstm": 5000})
    file = climb.measures("ngram")[0] / "metrics.json"
    other = {"score": score, "interval": [score - 0.5, score + 0.5]}
    write_json(file, {**read_json(file), "perplexity_per_word": other})
    finding = neural.page(climb).finding
    assert "The least perplexed is lstm: 2.0 [1.5, 2.5] a word." in finding
    assert ("It is not told apart from ngram." in finding) == told
