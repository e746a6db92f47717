"""Words that a vocabulary lacks are spelled, so that models of any vocabulary compare."""

import math
from pathlib import Path

import pytest

from components.dataset import Dataset
from components.evaluation.spelling import Speller, speller_of, unknown_words
from components.ingest import ingest
from components.ladder import language, language_measures
from components.ladder.block import Rung, Vocabulary
from components.ladder.climb import Climb
from components.ladder.ground import Ground
from components.ladder.vocabulary import make_vocabulary
from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.report.ladder import neural
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


def rung(vocabulary: str) -> Rung:
    return Rung.model_validate(
        {"corpus": "world", "vocabulary": vocabulary, "model": NGRAM, "training": TRAINING}
    )


@pytest.fixture(scope="module")
def artifacts(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rung of each vocabulary, trained and measured."""
    place = tmp_path_factory.mktemp("artifacts")
    for vocabulary in ("small", "large"):
        trained = place / "rungs" / f"{vocabulary}-1"
        measures = place / "measures" / f"{vocabulary}-1"
        trained.mkdir(parents=True)
        measures.mkdir(parents=True)
        given = ground(folders, vocabulary, place)
        language.train(rung(vocabulary), given, trained)
        write_json(trained / "rates.json", [])
        language_measures.measure(rung(vocabulary), given, trained, measures)
    return place


def ground(folders: Path, vocabulary: str, work: Path) -> Ground:
    return Ground(
        corpus=folders / "world",
        also=None,
        vocabulary=folders / vocabulary,
        files={},
        seed=1,
        checkpoints=work / "checkpoints" / vocabulary,
        identity="a",
        report=Silent(),
    )


def test_a_spelling_is_that_of_a_smoothed_bigram():
    speller = Speller(["ab", "ab", "b"])
    begin, a, b = 3 + 258, 2 + 258, 3 + 258  # how often each was left, smoothed
    expected = (2 + 1) / begin * (2 + 1) / a * (3 + 1) / b
    assert speller.nats("ab") == pytest.approx(-math.log(expected))
    assert Speller([]).nats("xyz") == pytest.approx(4 * math.log(258)), "a byte like any other"
    assert speller.nats("é") == pytest.approx(-math.log(1 / begin * (1 / 258) * (1 / 258)))


def test_only_what_the_vocabulary_lacks_is_spelled(folders: Path):
    engine = open_engine(folders / "large")
    texts = ["the river zzz, Ωmega zzz", "the <unk> river"]
    assert list(unknown_words(engine, texts)) == [["zzz", "Ωmega", "zzz"], ["<unk>"]]


def test_what_an_unknown_token_stands_for_adds_up_to_one_at_most():
    """A text's own `<unk>` cost nothing more, and every other word shared the token with it."""
    speller = Speller(["<unk>"] * 3 + ["ab"])
    assert speller.nats("<unk>") == pytest.approx(-math.log((3 + 1) / (4 + 258)))
    short = [bytes([byte]).decode() for byte in range(128)]
    assert math.exp(-speller.nats("<unk>")) + sum(math.exp(-speller.nats(w)) for w in short) < 1


def test_it_learns_from_the_words_that_training_lacks(tmp_path: Path, folders: Path):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "the zab zab river"}] * 300)
    speller = speller_of(open_engine(folders / "large"), tmp_path / "train.jsonl")
    assert speller.nats("zab") < 0.5 * Speller([]).nats("zab") < speller.nats("the")


def test_a_vocabulary_that_lacks_words_gains_nothing_by_it(folders: Path, artifacts: Path):
    """Named alone, ever fewer words are ever easier to predict: one of them would be certain."""
    measures = artifacts / "measures"
    small, large = (read_json(measures / name / "metrics.json") for name in ("small-1", "large-1"))
    assert small["unknown"] > 0.2 > large["unknown"]
    assert small["perplexity_named"]["score"] < large["perplexity_named"]["score"]
    assert small["perplexity_per_word"]["score"] > 2 * small["perplexity_named"]["score"]
    engine = open_engine(folders / "small")
    speller = speller_of(engine, folders / "world" / "train.jsonl")
    texts = [row["text"] for row in read_jsonl(folders / "world" / "test.jsonl")]
    records = read_jsonl(measures / "small-1" / "records.jsonl")
    for record, words in zip(records, unknown_words(engine, texts), strict=True):
        spelled = sum(map(speller.nats, words))
        assert record["nats"] - record["named"] == pytest.approx(spelled, abs=1e-3)
        assert record["unknown"] == sum(word != "<unk>" for word in words)


def test_the_page_says_what_was_measured(artifacts: Path):
    """Both models see two tokens: nothing is left of the gradient beyond."""
    rungs = {name: rung(name) for name in ("small", "large")}
    page = neural.page(Climb("ladder", artifacts, rungs, 1, ("small", "large")))
    assert "12 tokens back is left: small nothing, large nothing." in page.finding
    told = read_json(artifacts / "measures" / "small-1" / "metrics.json")
    table = page.tables[0]
    cells = dict(zip(table.head, table.rows[0], strict=True))
    assert cells["unknown"] == f"{told['unknown']:.1%}"
    named = cells["perplexity, unknown named only"]
    assert named.startswith(f"{told['perplexity_named']['score']:.1f} [")


def test_an_empty_vocabulary_names_the_data_sets_that_it_read(folders: Path, tmp_path: Path):
    """Named was a file of both texts together, which is gone by the time it is looked for."""
    block = Vocabulary(corpus="world", kind="words", vocab_size=60, min_frequency=10**6)
    again = tmp_path / "again"
    again.symlink_to(folders / "world")
    said = r"/world/train\.jsonl and .*/again/train\.jsonl gives an empty vocabulary: nothing in it"
    with pytest.raises(ValueError, match=said):
        make_vocabulary(block, folders / "world", tmp_path / "v", Silent(), again)
    assert not (tmp_path / "v.corpus").exists()
