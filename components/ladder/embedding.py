"""Rungs whose words are vectors: one-hot, word2vec, GloVe."""

from pathlib import Path

from components.evaluation import analogies, wordsim
from components.evaluation.neighbours import ASKED, NEAREST, neighbours, plane
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.lineage import write_json, write_jsonl
from components.models.glove import GloveLearner
from components.models.one_hot import nearest_codes, sizes
from components.models.word2vec import Word2VecLearner
from components.models.word_vectors import (
    WordVectors,
    open_vectors,
    open_words,
    save_vectors,
    save_words,
)
from components.training.checkpoint import Checkpoints
from components.training.epochs import train_epochs
from components.word_text import read_text

LEARNERS = {"word2vec": Word2VecLearner, "glove": GloveLearner}
METRICS, RECORDS = "metrics.json", "records.jsonl"


def train(rung: Rung, ground: Ground, out: Path) -> dict[str, float]:
    """Learn vectors of the words of the rung's data sets; of one-hot ones, list the words.

    Raises:
        ValueError: no word occurs often enough.
    """
    corpora = [ground.corpus, *([ground.also] if ground.also else [])]
    text = read_text(corpora, ground.vocabulary, rung.model.min_count)
    config = {**rung.model.model_dump(mode="json"), "words": len(text.words), "seed": ground.seed}
    figures = {"words": float(len(text.words)), "tokens": float(len(text.rows))}
    if rung.model.family not in LEARNERS:
        save_words(text.words, text.counts, config, out)
        return figures
    learner = LEARNERS[rung.model.family](rung.model, text, ground.seed)
    checkpoints = Checkpoints(ground.checkpoints, ground.identity)
    history = train_epochs(learner, rung.model.epochs, checkpoints, ground.report)
    vectors = WordVectors(text.words, text.counts, learner.vectors())
    save_vectors(vectors, config, out)
    parameters = sum(array.size for name, array in learner.state().items() if name != "squares")
    told = {"history": history, "parameters": parameters, "tokens": len(text.rows)}
    write_json(out / "training.json", told)
    return {**figures, "parameters": float(parameters)}


def measure(rung: Rung, ground: Ground, trained: Path, out: Path) -> dict[str, float]:
    """Analogies, word similarity, neighbours and a map of the vectors in `trained`.

    Writes `metrics.json`, `neighbours.json` and `map.json`; of each question and pair a record in
    `records.jsonl`. One-hot vectors are all as far apart, so only that is written of them.

    Raises:
        ValueError: a file of questions or pairs has a line that is none; `trained` has no vectors.
    """
    if rung.model.family not in LEARNERS:
        return _measure_one_hot(trained, out)
    vectors = open_vectors(trained)
    frequent = vectors.first(analogies.RESTRICT)
    answered = analogies.answer(frequent, _questions(ground))
    compared = {name: wordsim.compare(vectors, pairs) for name, pairs in _pairs(ground).items()}
    metrics = {
        "words": len(vectors.words),
        "dimensions": vectors.matrix.shape[1],
        "restricted_to": min(analogies.RESTRICT, len(vectors.words)),
        "analogies": analogies.score(answered),
        "wordsim": {name: wordsim.score(records) for name, records in compared.items()},
    }
    write_json(out / METRICS, metrics)
    write_json(out / "neighbours.json", neighbours(vectors))
    write_json(out / "map.json", plane(vectors))
    judged = ({"set": name, **record} for name, records in compared.items() for record in records)
    write_jsonl(out / RECORDS, [*answered, *judged])
    return _figures(metrics)


def _measure_one_hot(trained: Path, out: Path) -> dict[str, float]:
    words, counts = open_words(trained)
    codes = {word: words.index(word) for word in ASKED if word in words}
    told = {
        **sizes(len(words), int(counts.sum())),
        "codes": codes,
        "nearest_codes": {w: nearest_codes(words, code, NEAREST) for w, code in codes.items()},
    }
    write_json(out / METRICS, told)
    return {name: float(told[name]) for name in ("dimensions", "sparsity", "distance")}


def _questions(ground: Ground) -> list[analogies.Question]:
    path = ground.files.get("analogies")
    return analogies.read_questions(path) if path else analogies.built_in_questions()


def _pairs(ground: Ground) -> dict[str, list[wordsim.Pair]]:
    """By the name of their file: of one, or of all in a folder."""
    path = ground.files.get("wordsim")
    if path is None:
        return {}
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: no .txt file in it; put one with 'tiger cat 7.35' lines there")
    return {file.stem: wordsim.read_pairs(file) for file in files}


def _figures(metrics: dict) -> dict[str, float]:
    """The scores that are defined, flat."""
    found = {f"analogies_{k}": s for k, s in metrics["analogies"].items() if k != "sections"}
    found |= {f"wordsim_{name}": told for name, told in metrics["wordsim"].items()}
    return {name: told["score"] for name, told in found.items() if told["score"] is not None}
