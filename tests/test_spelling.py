"""Words that a vocabulary lacks are spelled, so that models of any vocabulary compare."""

import math
from pathlib import Path

import pytest

from components.dataset import Dataset
from components.evaluation.spelling import Speller, speller_of, unknown_words
from components.ingest import ingest
from components.ladder import language, language_measures
from components.ladder.block import Rung, Vocabulary
from components.ladder.ground import Ground
from components.ladder.vocabulary import make_vocabulary
from components.lineage import read_json, read_jsonl, write_jsonl
from components.reporter import Silent
from components.tokenizer import open_engine

TRAINING = {"steps": 4, "batch_size": 4, "learning_rate": 0.01, "precision": "float32"}
NGRAM = {"family": "ngram", "order": 3, "width": 8, "hidden": 8, "context": 16}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world, and two vocabularies of its words: one lacks most of them."""
    place = tmp_path_factory.mktemp("spelling")
    (place / "world").mkdir()
    block = Dataset(path="x", format="world", seed=1, size=1000)
    ingest(block, Path("x"), place / "world", Silent())
    for name, size in (("small", 60), ("large", 2000)):
        (place / name).mkdir()
        words = Vocabulary(corpus="world", kind="words", vocab_size=size, min_frequency=1)
        make_vocabulary(words, place / "world", place / name, Silent())
    return place


def measured(folders: Path, vocabulary: str, work: Path) -> tuple[dict, list[dict]]:
    ground = Ground(
        corpus=folders / "world",
        also=None,
        vocabulary=folders / vocabulary,
        files={},
        seed=1,
        checkpoints=work / "checkpoints",
        identity="a",
        report=Silent(),
    )
    rung = Rung.model_validate(
        {"corpus": "world", "vocabulary": "v", "model": NGRAM, "training": TRAINING}
    )
    for name in ("trained", "measures"):
        (work / name).mkdir(parents=True)
    language.train(rung, ground, work / "trained")
    language_measures.measure(rung, ground, work / "trained", work / "measures")
    records = list(read_jsonl(work / "measures" / "records.jsonl"))
    return read_json(work / "measures" / "metrics.json"), records


def test_a_spelling_is_that_of_a_smoothed_bigram():
    speller = Speller(["ab", "ab", "b"])
    begin, a, b = 3 + 257, 2 + 257, 3 + 257  # how often each was left, smoothed
    expected = (2 + 1) / begin * (2 + 1) / a * (3 + 1) / b
    assert speller.nats("ab") == pytest.approx(-math.log(expected))
    assert Speller([]).nats("xyz") == pytest.approx(4 * math.log(257)), "a byte like any other"
    assert speller.nats("é") == pytest.approx(-math.log(1 / begin * (1 / 257) * (1 / 257)))


def test_only_what_the_vocabulary_lacks_is_spelled(folders: Path):
    engine = open_engine(folders / "large")
    texts = ["the river zzz, Ωmega zzz", "the <unk> river"]
    assert list(unknown_words(engine, texts)) == [["zzz", "Ωmega", "zzz"], []]


def test_it_learns_from_the_words_that_training_lacks(tmp_path: Path, folders: Path):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "the zab zab river"}] * 300)
    speller = speller_of(open_engine(folders / "large"), tmp_path / "train.jsonl")
    assert speller.nats("zab") < 0.5 * Speller([]).nats("zab") < speller.nats("the")


def test_a_vocabulary_that_lacks_words_gains_nothing_by_it(folders: Path, tmp_path: Path):
    """Named alone, ever fewer words are ever easier to predict: one of them would be certain."""
    small, records = measured(folders, "small", tmp_path / "small")
    large, _ = measured(folders, "large", tmp_path / "large")
    assert small["unknown"] > 0.2 > large["unknown"]
    assert small["perplexity_named"]["score"] < large["perplexity_named"]["score"]
    assert small["perplexity_per_word"]["score"] > 2 * small["perplexity_named"]["score"]
    engine = open_engine(folders / "small")
    speller = speller_of(engine, folders / "world" / "train.jsonl")
    texts = [row["text"] for row in read_jsonl(folders / "world" / "test.jsonl")]
    for record, words in zip(records, unknown_words(engine, texts), strict=True):
        spelled = sum(map(speller.nats, words))
        assert record["nats"] - record["named"] == pytest.approx(spelled, abs=1e-3)
        assert record["unknown"] == len(words)
