"""Embeddings: judged as gensim judges them, opened by gensim, resumed exactly."""

from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest

from components import world
from components.evaluation import analogies, wordsim
from components.evaluation.neighbours import neighbours, plane
from components.ladder import embedding, embedding_measures
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.lineage import folder_hash, read_json, read_jsonl, write_jsonl
from components.models.embedding import Word2Vec
from components.models.one_hot import nearest_codes, sizes
from components.models.word2vec import Word2VecLearner
from components.models.word_vectors import WordVectors, open_vectors, save_vectors
from components.reporter import Silent
from components.tokenizer import Tokenizer, train_tokenizer
from components.training.checkpoint import Checkpoints
from components.training.epochs import train_epochs
from components.word_text import read_text

MODELS = {
    "skip_gram": {"family": "word2vec", "architecture": "skip_gram", "sample": 1e-3},
    "cbow": {"family": "word2vec", "architecture": "cbow", "sample": 1e-3},
    "glove": {"family": "glove"},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = list(world.documents(1500, seed=1, kinds=["family", "capital", "comparative"]))
    for split in ("train", "validation", "test"):
        write_jsonl(folder / f"{split}.jsonl", (r for r in rows if world.split_of(r) == split))
    return folder


@pytest.fixture(scope="module")
def vocabulary(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    train_tokenizer(Tokenizer(kind="words", vocab_size=1000), corpus, folder, Silent())
    return folder


def ground(corpus: Path, vocabulary: Path, place: Path, **files: Path) -> Ground:
    checkpoints = place / "checkpoints"
    return Ground(corpus, None, vocabulary, files, 1, checkpoints, "identity", Silent())


def rung(**model: object) -> Rung:
    small = {"dimensions": 16, "epochs": 3} if model["family"] != "one_hot" else {}
    return Rung(corpus="c", vocabulary="v", model={**small, **model})


@pytest.fixture(scope="module", params=MODELS)
def trained(request, corpus: Path, vocabulary: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp(request.param) / "rung"
    out.mkdir()
    embedding.train(rung(**MODELS[request.param]), ground(corpus, vocabulary, out.parent), out)
    return out


def keyed(vectors: WordVectors):
    from gensim.models import KeyedVectors

    found = KeyedVectors(vectors.matrix.shape[1])
    found.add_vectors(list(vectors.words), vectors.matrix)
    return found


def write_questions(path: Path, questions: list[analogies.Question]) -> Path:
    lines, section = [], None
    for q in questions:
        lines += [] if q.section == section else [f": {q.section}"]
        section = q.section
        lines.append(f"{q.first} {q.second} {q.third} {q.answer}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_words_are_counted_and_the_rest_left_out(corpus: Path, vocabulary: Path):
    text = read_text([corpus], vocabulary, min_count=3)
    plain = [
        row["text"].replace(",", "").replace(".", "").split()
        for row in read_jsonl(corpus / "train.jsonl")
    ]
    counts = dict(zip(text.words, text.counts, strict=True))
    assert list(text.counts) == sorted(text.counts, reverse=True)
    for word in ("king", "is", "Paris"):
        assert counts[word] == sum(document.count(word) for document in plain)
    assert not {",", ".", "<unk>"} & set(text.words)
    kept = [[word for word in document if word in counts] for document in plain]
    assert [[text.words[row] for row in rows] for rows in text.documents()] == kept
    assert len(read_text([corpus, corpus], vocabulary, 1).rows) == 2 * len(
        read_text([corpus], vocabulary, 1).rows
    )
    with pytest.raises(ValueError, match=r"occurs 1000000 times; lower min_count"):
        read_text([corpus], vocabulary, min_count=1_000_000)


def test_analogies_are_answered_as_by_gensim(trained: Path, tmp_path: Path):
    vectors = open_vectors(trained).first(150)
    path = write_questions(tmp_path / "questions.txt", analogies.built_in_questions())
    questions = analogies.read_questions(path)
    assert questions == analogies.built_in_questions()
    records = analogies.answer(vectors, questions)
    overall, sections = keyed(vectors).evaluate_word_analogies(str(path))
    told = analogies.score(records)
    assert told["all"]["score"] == pytest.approx(overall)
    assert told["all"]["unknown"] == sum(bool(record["unknown"]) for record in records) > 0
    for section in sections[:-1]:
        ours = [r["words"] for r in records if r["section"] == section["section"] and r["correct"]]
        assert ours == [[word.lower() for word in words] for words in section["correct"]]
        asked = len(section["correct"]) + len(section["incorrect"])
        assert told["sections"][section["section"]]["n"] == asked
    low, high = told["all"]["interval"]
    assert low < told["all"]["score"] < high


@pytest.mark.parametrize("seed", range(3))
def test_further_spellings_are_answered_as_by_gensim(tmp_path: Path, seed: int):
    """King was an answer to a question with king: the nearest of all to itself."""
    names = ["man", "king", "woman", "queen", "boy", "girl"]
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(len(names), 4)).astype(np.float32)
    near = matrix + random.normal(0, 0.05, matrix.shape).astype(np.float32)
    words = [*names, *(name.title() for name in names)]
    vectors = WordVectors(words, np.arange(12, 0, -1), np.concatenate([matrix, near]))
    questions = [analogies.Question("s", a, b, c, d) for a, b, c, d in permutations(names, 4)]
    path = write_questions(tmp_path / "questions.txt", questions)
    records = analogies.answer(vectors, questions)
    overall, sections = keyed(vectors).evaluate_word_analogies(str(path))
    ours = [record["words"] for record in records if record["correct"]]
    assert ours == [[word.lower() for word in found] for found in sections[0]["correct"]]
    assert analogies.score(records)["all"]["score"] == pytest.approx(overall) and 0 < overall < 1


def test_pairs_are_compared_as_by_gensim(trained: Path, tmp_path: Path):
    vectors = open_vectors(trained)
    names = [vectors.words[row].lower() for row in range(0, 60, 3)]
    random = np.random.default_rng(0)
    lines = [f"{a}\t{b}\t{random.integers(10)}" for a, b in pairwise(names)]
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join([*lines, "king\tzebra\t3.5"]), encoding="utf-8")
    told = wordsim.score(wordsim.compare(vectors, wordsim.read_pairs(path)))
    _, rho, unknown = keyed(vectors).evaluate_word_pairs(str(path))
    assert told["score"] == pytest.approx(rho.statistic, abs=1e-6)
    assert (told["n"], told["unknown"]) == (len(lines), 1)
    assert unknown == pytest.approx(100 / (len(lines) + 1))
    assert told["interval"][0] < told["score"] < told["interval"][1]


def test_cosines_that_are_all_equal_rank_nothing():
    vectors = WordVectors(["a", "b", "c"], np.ones(3), np.eye(3, dtype=np.float32))
    pairs = [wordsim.Pair("a", "b", 1.0), wordsim.Pair("a", "c", 2.0)]
    assert wordsim.score(wordsim.compare(vectors, pairs))["score"] is None


def test_sections_that_all_pairs_agree_on_have_an_exact_interval():
    """Five pairs that are all right do not show that every pair would be (Clopper & Pearson)."""
    words = [[f"a{n}", "b", f"c{n}", "d"] for n in range(5) for _ in range(3)]
    rows = [{"section": "s", "kind": "semantic", "words": w, "unknown": []} for w in words]
    right = analogies.score([{**row, "correct": True} for row in rows])["all"]
    wrong = analogies.score([{**row, "correct": False} for row in rows])["all"]
    assert right["interval"] == pytest.approx([0.025 ** (1 / 5), 1.0])
    assert wrong["interval"] == pytest.approx([0.0, 1 - 0.025 ** (1 / 5)])


def test_intervals_of_analogies_cover_what_other_pairs_would_give():
    """Drawn by their first pairs alone they were half as wide, since a pair that is not understood
    spoils the questions on whose either side it stands.
    """
    good, covered, worlds = 0.7, 0, 60  # a question is right where both of its pairs are good
    for seed in range(worlds):
        random = np.random.default_rng(seed)
        fine = random.random(24) < good
        rows = [
            {
                **{"section": "s", "kind": "semantic", "unknown": []},
                **{"words": [f"a{n}", f"b{n}", f"a{m}", f"b{m}"], "correct": fine[n] and fine[m]},
            }
            for n, m in permutations(range(len(fine)), 2)
        ]
        low, high = analogies.score(rows)["all"]["interval"]
        covered += low <= good**2 <= high
    assert covered / worlds > 0.85


def test_gensim_opens_both_forms(trained: Path):
    from gensim.models import KeyedVectors

    vectors = open_vectors(trained)
    for name, binary in (("vectors.txt", False), ("vectors.bin", True)):
        opened = KeyedVectors.load_word2vec_format(str(trained / name), binary=binary)
        assert opened.index_to_key == list(vectors.words)
        np.testing.assert_allclose(opened.vectors, vectors.matrix, rtol=1e-6, atol=1e-7)
    nearest = neighbours(vectors, ["king"])["king"]
    expected = opened.most_similar("king", topn=len(nearest))
    assert [word for word, _ in nearest] == [word for word, _ in expected]
    assert [c for _, c in nearest] == pytest.approx([c for _, c in expected], abs=1e-5)


def test_training_is_deterministic(corpus: Path, vocabulary: Path, trained: Path, tmp_path: Path):
    out = tmp_path / "rung"
    out.mkdir()
    config = read_json(trained / "config.json")
    model = {k: v for k, v in config.items() if k not in ("words", "seed")}
    embedding.train(rung(**model), ground(corpus, vocabulary, tmp_path), out)
    assert folder_hash(out) == folder_hash(trained)


def test_word2vec_goes_on_as_if_it_had_never_stopped(
    corpus: Path, vocabulary: Path, tmp_path: Path
):
    text = read_text([corpus], vocabulary, 1)
    block = Word2Vec(**MODELS["skip_gram"], dimensions=8, epochs=3)

    def run(folder: str, epochs: int) -> np.ndarray:
        learner = Word2VecLearner(block, text, seed=1)
        train_epochs(learner, epochs, Checkpoints(tmp_path / folder, "x"), Silent())
        return learner.vectors()

    whole = run("whole", 3)
    run("parts", 2)
    np.testing.assert_array_equal(run("parts", 3), whole)


def test_vectors_that_are_measured(corpus: Path, vocabulary: Path, trained: Path, tmp_path: Path):
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("king queen 9\nking is 1\nking prince 7\nParis Rome 8\n", encoding="utf-8")
    out = tmp_path / "measure"
    out.mkdir()
    model = rung(**MODELS[trained.parent.name.rstrip("0123456789")])
    figures = embedding_measures.measure(
        model, ground(corpus, vocabulary, tmp_path, wordsim=pairs), trained, out
    )
    metrics = read_json(out / "metrics.json")
    assert figures["analogies_all"] == metrics["analogies"]["all"]["score"]
    assert set(metrics["analogies"]["sections"]) == {
        "titles",
        "relatives",
        "capitals",
        "gram-comparative",
    }
    assert metrics["wordsim"]["pairs"]["n"] == 4
    records = list(read_jsonl(out / "records.jsonl"))
    assert len(records) == len(analogies.built_in_questions()) + 4
    assert {point["group"] for point in read_json(out / "map.json")["words"]} >= {"he and she"}


def test_one_hot_vectors_are_all_as_far_apart(corpus: Path, vocabulary: Path, tmp_path: Path):
    told, identity = sizes(7, tokens=20), np.eye(7)
    gaps = np.linalg.norm(identity[:, None] - identity[None], axis=2)[~np.eye(7, dtype=bool)]
    np.testing.assert_allclose(gaps, told["distance"])
    assert told["sparsity"] == pytest.approx((identity == 0).mean())
    assert told["dense_bytes"] == 20 * identity[0].astype(np.float32).nbytes
    assert nearest_codes("abcdefg", 1, 3) == [("a", 1), ("c", 1), ("d", 2)]
    trained, measured = tmp_path / "rung", tmp_path / "measure"
    trained.mkdir(), measured.mkdir()
    given = ground(corpus, vocabulary, tmp_path)
    figures = embedding.train(rung(family="one_hot"), given, trained)
    embedding_measures.measure(rung(family="one_hot"), given, trained, measured)
    metrics = read_json(measured / "metrics.json")
    assert metrics["dimensions"] == figures["words"]
    assert metrics["tokens"] == figures["tokens"]
    with pytest.raises(ValueError, match="words without vectors"):
        open_vectors(trained)


def test_the_map_is_that_of_principal_components():
    from sklearn.decomposition import PCA

    words = [f"w{n}" for n in range(9)]
    matrix = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    vectors = WordVectors(words, np.ones(9), matrix)
    found = plane(vectors, {"a": ["w0 w1", "w2 missing", "w3"], "b": ["w4 w5", *words[6:]]})
    assert found["pairs"] == [[0, 1], [4, 5]]
    places = np.array([[point["x"], point["y"]] for point in found["words"]])
    fitted = PCA(2).fit(vectors.unit)
    np.testing.assert_allclose(np.abs(places), np.abs(fitted.transform(vectors.unit)), atol=1e-5)
    np.testing.assert_allclose(found["variance"], fitted.explained_variance_ratio_, rtol=1e-5)


def test_a_words_case_is_that_of_its_most_frequent_spelling():
    matrix = np.eye(3, dtype=np.float32)
    vectors = WordVectors(["Paris", "paris", "PARIS"], np.array([9, 5, 1]), matrix)
    assert vectors.rows == {"paris": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (": a\nking queen man\n", r"questions\.txt:2: 3 words where a question has four: 'king"),
        ("king queen man woman\n", r"questions\.txt:1: no section yet"),
        (": a\n\n", r"questions\.txt: no question"),
        (": a\nr\udce9 b c d\n", r"questions\.txt:2: not UTF-8 \(byte b'\\xe9' at column 2\)"),
        ("", r"questions\.txt: the file is empty"),
    ],
)
def test_files_that_hold_no_questions_are_refused(text: str, said: str, tmp_path: Path):
    path = tmp_path / "questions.txt"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=said):
        analogies.read_questions(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tiger cat 7\nking queen\n", r"pairs\.txt:2: 'king queen' is no pair"),
        ("tiger cat near\n", r"pairs\.txt:1: 'tiger cat near' is no pair"),
        ("\n", r"pairs\.txt: no pair"),
        ("tiger cat 7\nking queen nan\n", r"pairs\.txt:2: 'king queen nan' is no pair"),
        ("king queen -inf\n", r"pairs\.txt:1: 'king queen -inf' is no pair"),
        ("king r\udce9 1\n", r"pairs\.txt:1: not UTF-8 \(byte b'\\xe9' at column 7\)"),
    ],
)
def test_files_that_hold_no_pairs_are_refused(text: str, said: str, tmp_path: Path):
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=said):
        wordsim.read_pairs(path)


def test_vectors_come_back_as_they_were(tmp_path: Path):
    matrix = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    save_vectors(WordVectors(["a", "b", "ç"], np.array([3, 2, 1]), matrix), {}, tmp_path)
    found = open_vectors(tmp_path)
    assert list(found.words) == ["a", "b", "ç"]
    np.testing.assert_array_equal(found.matrix, matrix)
    with pytest.raises(ValueError, match=r"holds no embedding; run 'dvc repro embedding@"):
        open_vectors(tmp_path / "none-1")
