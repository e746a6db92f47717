"""What the pages of the ladder compute beside what they draw."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from components.ladder import senses
from components.ladder.block import CONTRADICTED, FIGURES, HELD, OPEN, Expectation, Rung
from components.ladder.climb import Climb
from components.lineage import write_json, write_jsonl
from components.metric_names import LOWER_IS_BETTER
from components.report.ladder import bert, beyond, codes, expected
from components.report.ladder.beyond import fitted
from components.report.ladder.expected import judged
from components.report.ladder.seeds import over_seeds


def test_a_law_is_found_again():
    sizes = np.array([1e5, 3e5, 1e6, 3e6, 1e7, 3e7])
    losses = 1.5 + 2.0 * (sizes / sizes[0]) ** -0.35
    law = fitted(sizes, losses)
    for name, value in (("floor", 1.5), ("scale", 2.0), ("power", 0.35)):
        assert law[name] == pytest.approx(value, rel=1e-3)
    assert max(map(abs, law["residuals"])) < 1e-4 and law["sound"]


def test_a_law_at_its_bounds_is_told():
    sizes = np.array([1e5, 3e5, 1e6, 3e6, 1e7, 3e7])
    assert not fitted(sizes, np.full(6, 2.0))["sound"]


def test_a_law_whose_floor_is_the_lowest_loss_is_told():
    """The largest model lay below the curve of the others, and the fit ended at its bound."""
    sizes = np.array([12_336, 29_792, 80_112, 139_584, 381_600, 869_504])
    losses = np.array([1.202, 0.972, 0.882, 0.859, 0.837, 0.810])
    law = fitted(sizes, losses)
    assert law["floor"] == pytest.approx(losses.min(), rel=1e-3) and not law["sound"]


def test_several_seeds_give_students_interval():
    one = [{"score": 0.5, "interval": [0.4, 0.6]}]
    assert over_seeds(one) == {"score": 0.5, "interval": [0.4, 0.6]}
    three = over_seeds([{"score": s, "interval": [0, 1]} for s in (0.4, 0.5, 0.6)])
    # t(0.975, 2) = 4.3027 times 0.1 / sqrt(3)
    assert three["interval"] == pytest.approx([0.5 - 0.24841, 0.5 + 0.24841], abs=1e-4)


@pytest.mark.parametrize("seeds", [1, 2])
def test_what_a_seed_could_not_be_asked_is_not_told_apart(tmp_path, seeds):
    """Word similarity has no score where no pair is known: the book ended with a TypeError."""
    asked, unasked = {"score": 0.4, "interval": [0.3, 0.5]}, {"score": None, "interval": None}
    assert over_seeds([asked, unasked]) == over_seeds([unasked]) == unasked
    for name, figure in (("one", asked), ("other", unasked)):
        for seed in range(1, seeds + 1):
            folder = tmp_path / "measures" / f"{name}-{seed}"
            folder.mkdir(parents=True)
            write_json(folder / "metrics.json", {"wordsim": {"pairs": figure}})
    expects = (Expectation(better="one", than="other", by="wordsim.pairs"),)
    page = expected.page(Climb("ladder", tmp_path, {}, seeds, (), expects))
    assert page.tables[0].rows[0][-2:] == ("–", OPEN)


def test_what_was_not_measured_ends_no_book(tmp_path):
    """Alignments are none on real text; by them the whole book ended with a TypeError."""
    figure = {"score": 0.4, "interval": [0.3, 0.5]}
    for name, told in (("one", {"alignment": None}), ("other", {"alignment": figure})):
        (tmp_path / "measures" / f"{name}-1").mkdir(parents=True)
        write_json(tmp_path / "measures" / f"{name}-1" / "metrics.json", told)
    asked = ("alignment", "wordsim.misspelt")
    expects = tuple(Expectation(better="one", than="other", by=by) for by in asked)
    climb = Climb("ladder", tmp_path, {}, 1, (), expects)
    assert [one["verdict"] for one in expected.verdicts(climb)] == [OPEN, OPEN]


def decoder(corpus: str, vocabulary: str, width: int = 8) -> Rung:
    model = {"family": "decoder", "layers": 1, "width": width, "heads": 1, "context": 8}
    block = {"corpus": corpus, "vocabulary": vocabulary, "model": model}
    return Rung.model_validate({**block, "training": {"learning_rate": 0.1}})


def test_sizes_are_those_of_one_decoder_on_the_same_tokens(tmp_path):
    """One GPT with four vocabularies was fitted with a law of sizes, and left GPT's page."""
    kinds = {f"by_{kind}": decoder("c", kind) for kind in ("bpe", "wordpiece", "unigram", "words")}
    seeds = {f"again_{n}": decoder("d", "v") for n in range(4)}
    sizes = {f"size_{width}": decoder("e", "v", width) for width in (8, 16, 24, 32)}
    assert beyond.swept(Climb("ladder", tmp_path, {**kinds, **seeds}, 1, ())) == []
    climb = Climb("ladder", tmp_path, {**kinds, **sizes}, 1, ())
    assert beyond.swept(climb) == list(sizes)


def test_codes_of_no_word_that_is_asked_about_have_no_pictures(tmp_path):
    folder = tmp_path / "measures" / "one_hot-1"
    folder.mkdir(parents=True)
    sizes = {"dimensions": 10, "tokens": 100, "code_bytes": 400, "dense_bytes": 4000}
    told = {**sizes, "distance": 1.4, "cosine": 0, "sparsity": 0.9, "codes": {}}
    write_json(folder / "metrics.json", {**told, "nearest_codes": {}})
    model = {"family": "one_hot"}
    rung = Rung.model_validate({"corpus": "c", "vocabulary": "v", "model": model})
    page = codes.page(Climb("ladder", tmp_path, {"one_hot": rung}, 1, ()))
    assert page.pictures == [] and page.tables[0].rows == []


def test_an_expectation_is_held_only_where_the_intervals_do_not_meet():
    low, high = {"score": 1, "interval": [0.5, 1.5]}, {"score": 3, "interval": [2.5, 3.5]}
    wide = {"score": 1, "interval": [0.5, 2.6]}
    assert judged(low, high, lower=True) == HELD
    assert judged(high, low, lower=True) == CONTRADICTED
    assert judged(high, low, lower=False) == HELD
    assert judged(wide, high, lower=True) == judged(high, wide, lower=False) == OPEN


@pytest.mark.parametrize("by", ["perplexity_named", "ratio", "perplexity_per_word", "alignment"])
def test_which_way_a_figure_is_better_is_known(tmp_path, by):
    """A ratio to the best possible model was taken for better where it is higher."""
    assert any(by in names for names in FIGURES.values()) and by in LOWER_IS_BETTER
    for name, score in (("low", 1.0), ("high", 3.0)):
        (tmp_path / "measures" / f"{name}-1").mkdir(parents=True)
        figure = {"score": score, "interval": [score - 0.5, score + 0.5]}
        write_json(tmp_path / "measures" / f"{name}-1" / "metrics.json", {by: figure})
    climb = Climb("ladder", tmp_path, {}, 1, (), (Expectation(better="low", than="high", by=by),))
    (row,) = expected.page(climb).tables[0].rows
    assert row[-1] == HELD and "lower is better" in row[2]


def bert_climb(place: Path, *sides: str) -> Climb:
    """A ladder of BERT and an LSTM, measured on `sides` of the word."""
    models = {
        "bert": {"family": "bert", "layers": 1, "width": 8, "heads": 1, "context": 8},
        "lstm": {"family": "lstm", "layers": 1, "width": 8, "context": 8},
    }
    rows = [
        {"text": f"{n} bank .", "sense": sense, "side": side, "point": [n, 0.0]}
        for n, (sense, side) in enumerate(product(senses.SENSES, sides))
    ]
    rungs, figure = {}, {"score": 0.5, "interval": [0.4, 0.6]}
    for name, model in models.items():
        block = {"corpus": "c", "vocabulary": "v", "model": model}
        rungs[name] = Rung.model_validate({**block, "training": {"learning_rate": 0.1}})
        trained, measures = (place / kind / f"{name}-1" for kind in ("rungs", "measures"))
        for folder in (trained, measures):
            folder.mkdir(parents=True)
        write_json(trained / "training.json", {"tokens": 10, "parameters": 10})
        write_json(trained / "rates.json", [])
        told = dict.fromkeys(sides, figure)
        figures = {f"senses_{side}": figure for side in sides}
        figures |= {"masked_accuracy": figure, "pronouns": figure, "parameters": 10}
        write_json(measures / "metrics.json", figures)
        write_json(measures / "senses.json", {"told": told, "sentences": rows})
        write_jsonl(measures / "pronouns.jsonl", [])
        write_json(measures / "neighbours.json", {})
    return Climb("ladder", place, rungs, 1, ())


@pytest.mark.parametrize("sides", [("left",), ("left", "right")])
def test_what_is_decided_on_each_side_of_a_word_is_told_apart(tmp_path, sides):
    """Word2vec stood in this picture at 0.5, which nobody had measured."""
    page = bert.page(bert_climb(tmp_path, *sides))
    planes, scores = page.pictures
    names = [label.get_text() for label in scores.figure.axes[0].get_yticklabels()]
    assert names == [f"{name}, {side}" for side in sides for name in ("bert", "lstm")]
    assert ("pairs of sentences" in planes.caption) == ("right" in sides)
    assert ("nothing here asks for both sides" in planes.caption) == ("right" not in sides)
    assert "0.5 by construction, so they were not asked" in scores.caption
    cells = dict(zip(page.tables[0].head, page.tables[0].rows[0], strict=True))
    assert (cells["meanings, decided on the right"] == "–") == ("right" not in sides)


@pytest.mark.parametrize("known", [True, False])
def test_the_one_vector_of_word2vec_stands_beside_those_of_sentences(tmp_path, known):
    """The picture showed it nowhere, where the page speaks of it."""
    climb = bert_climb(tmp_path, "left")
    block = {"corpus": "c", "vocabulary": "v"}
    block["model"] = {"family": "word2vec", "architecture": "cbow"}
    rungs = {**climb.rungs, "cbow": Rung.model_validate(block)}
    measures = tmp_path / "measures" / "cbow-1"
    measures.mkdir()
    words = {"bank": "bank", "shore": "river", "loan": "money"} if known else {"shore": "river"}
    points = [{"word": w, "group": g, "x": n, "y": n} for n, (w, g) in enumerate(words.items())]
    write_json(measures / "one_vector.json", {"words": points, "pairs": [], "variance": [1, 0]})
    picture = bert.page(Climb("ladder", tmp_path, rungs, 1, ())).pictures[0]
    panels = {axes.get_title(): axes for axes in picture.figure.axes if axes.get_visible()}
    assert ("cbow: one vector" in panels) == ("the star" in picture.caption) == known
    if known:
        written = [text.get_text() for text in panels["cbow: one vector"].texts]
        assert written == list(words)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_law_shows_how_much_seeds_differ(tmp_path, seeds):
    """Points of several seeds stood there as if they were exact."""
    rungs = {}
    for number, width in enumerate((8, 16, 24, 32)):
        name = f"size_{width}"
        rungs[name] = decoder("c", "v", width)
        for seed in range(1, seeds + 1):
            trained, measures = (tmp_path / k / f"{name}-{seed}" for k in ("rungs", "measures"))
            for folder in (trained, measures):
                folder.mkdir(parents=True)
            loss = 2 + 4.0**-number + 0.1 * seed
            history = [{"step": 1, "validation_loss": loss}]
            counts = {"tokens": 100, "parameters": 10**number * 100}
            write_json(trained / "training.json", {"history": history, **counts})
            write_json(trained / "rates.json", [])
            figure = {"score": loss, "interval": [loss - 0.1, loss + 0.1]}
            write_json(measures / "metrics.json", {"bits_per_byte": figure, **counts})
    page = beyond.page(Climb("ladder", tmp_path, rungs, seeds, ()))
    (law,) = [picture for picture in page.pictures if picture.name == "scaling_law"]
    assert ("range over seeds" in law.caption) == (seeds > 1)
    for axes, middle in zip(law.figure.axes, (2 + 0.1 * (seeds + 1) / 2 + 1, None), strict=True):
        (low, high) = axes.collections[0].get_segments()[0][:, 1]
        assert high - low == pytest.approx(0.1 * (seeds - 1), abs=1e-9)
        assert middle is None or (low + high) / 2 == pytest.approx(middle)
