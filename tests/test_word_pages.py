"""The book's pages on codes, embeddings and tokenizers, from rungs that were really trained."""

from dataclasses import replace
from pathlib import Path

import pytest

from components import world
from components.ladder import embedding, embedding_measures
from components.ladder.block import Rung
from components.ladder.climb import Climb
from components.ladder.ground import Ground
from components.ladder.vocabulary import make_vocabulary
from components.lineage import read_json, write_jsonl
from components.report.ladder import codes, embeddings, tokenizers
from components.reporter import Silent
from components.tokenizer import Tokenizer

SEEDS = 2
MODELS = {
    "one_hot": {"family": "one_hot"},
    "cbow": {"family": "word2vec", "architecture": "cbow", "dimensions": 16, "epochs": 2},
    "skip_gram": {"family": "word2vec", "architecture": "skip_gram", "dimensions": 16, "epochs": 2},
    "glove": {"family": "glove", "dimensions": 16, "epochs": 4},
}
KINDS = {"words": 1500, "bpe": 400, "characters": 100}


def climb(place: Path, *names: str, seeds: int = SEEDS) -> Climb:
    rungs = {n: Rung(corpus="world", vocabulary="words", model=MODELS[n]) for n in names}
    return Climb("ladder", place / "artifacts", rungs, seeds, list(KINDS))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with all rungs of `MODELS`, from two seeds."""
    place = tmp_path_factory.mktemp("workspace")
    dataset, artifacts = place / "world", place / "artifacts"
    dataset.mkdir()
    rows = list(world.documents(1500, seed=1))
    for split in ("train", "validation", "test"):
        write_jsonl(dataset / f"{split}.jsonl", (r for r in rows if world.split_of(r) == split))
    for kind, size in KINDS.items():
        folder = artifacts / "vocabularies" / kind
        folder.mkdir(parents=True)
        make_vocabulary(Tokenizer(kind=kind, vocab_size=size), dataset, folder, Silent())
    pairs = place / "pairs.txt"
    pairs.write_text("\n".join(f"king {w} {n}" for n, w in enumerate(world.words.BEINGS)))
    for name in MODELS:
        rung = climb(place, name).rungs[name]
        for seed in range(1, SEEDS + 1):
            folders = [artifacts / kind / f"{name}-{seed}" for kind in ("rungs", "measures")]
            for folder in folders:
                folder.mkdir(parents=True)
            kept = place / f"checkpoints-{name}-{seed}"
            files = {"wordsim": pairs}
            vocabulary = artifacts / "vocabularies" / "words"
            ground = Ground(dataset, None, vocabulary, files, seed, kept, "x", Silent())
            embedding.train(rung, ground, folders[0])
            embedding_measures.measure(rung, ground, *folders)
    return place


def test_a_ladder_without_such_rungs_has_no_such_pages(place: Path):
    assert codes.page(climb(place, "cbow")) is None
    assert embeddings.page(climb(place, "one_hot")) is None
    assert tokenizers.page(Climb("ladder", place, {}, 1, [])) is None


def test_one_hot_vectors_say_nothing_of_likeness(place: Path):
    page = codes.page(climb(place, "one_hot"))
    told = read_json(place / "artifacts" / "measures" / "one_hot-1" / "metrics.json")
    neighbours, sizes = page.tables
    assert {row[-1] for row in neighbours.rows} == {f"all {told['dimensions'] - 1:,} others alike"}
    assert "1.414 apart" in page.finding
    assert [row[1] for row in sizes.rows] == ["1", f"{told['dimensions']:,}"]


def test_embeddings_stand_side_by_side(place: Path):
    page = embeddings.page(climb(place, *MODELS))
    scores, neighbours = page.tables
    assert [row[0] for row in scores.rows] == ["cbow", "skip_gram", "glove"]
    assert all(len(row) == len(scores.head) for row in scores.rows)
    told = read_json(place / "artifacts" / "measures" / "cbow-1" / "one_vector.json")
    assert {point["group"] for point in told["words"]} == {"bank", "river", "money"}
    assert neighbours.head == ("near", "one_hot", "cbow", "skip_gram", "glove")
    assert {row[1] for row in neighbours.rows} == {"all alike"}
    names = [picture.name for picture in page.pictures]
    assert names == ["analogies", "wordsim", "map_cbow", "map_skip_gram", "map_glove"]
    titles = [text.get_text() for text in page.pictures[0].figure.axes[0].get_yticklabels()]
    assert titles == ["capitals", "gram-comparative", "relatives", "titles"]


def test_of_several_seeds_the_mean_is_shown(place: Path):
    folders = [place / "artifacts" / "measures" / f"glove-{seed}" for seed in (1, 2)]
    scores = [read_json(f / "metrics.json")["analogies"]["all"]["score"] for f in folders]
    rows = {row[0]: row for row in embeddings.page(climb(place, "glove")).tables[0].rows}
    assert rows["glove"][5].startswith(f"{sum(scores) / 2:.3f} [")
    alone = embeddings.page(climb(place, "glove", seeds=1)).tables[0].rows
    assert alone[0][5].startswith(f"{scores[0]:.3f} [")


def test_each_tokenizer_shows_its_cuts(place: Path):
    page = tokenizers.page(climb(place, "one_hot"))
    (table,), (sentence,) = page.tables, page.blocks
    assert [row[0] for row in table.rows] == list(KINDS)
    sizes = [read_json(f / "measures.json") for f in climb(place).vocabularies().values()]
    assert [row[1] for row in table.rows] == [f"{one['vocab_size']:,}" for one in sizes]
    tokens = sum(len(one["sentence"]["tokens"]) for one in sizes)
    assert sentence.count('class="token"') == tokens
    assert "38 characters" in sentence and "isn&#39;t" not in sentence.split("characters")[0]
    assert "Nothing in the test text is unknown to" in page.finding


def test_how_fast_a_tokenizer_cuts_is_told_where_this_workspace_made_it(place: Path):
    """The issue asks for speed beside size, length and round trip; the page had none."""
    (table,) = tokenizers.page(replace(climb(place), speeds={"bpe": 1_500_000.0})).tables
    assert {row[0]: row[-1] for row in table.rows} == {
        "words": "–",
        "bpe": "1.5",
        "characters": "–",
    }
    assert table.head[-1] == "MB a second" and "a thread a core" in table.caption
