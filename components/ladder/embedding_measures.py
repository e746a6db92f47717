"""What vectors of words know: analogies, similarity, neighbours."""

from pathlib import Path

from components.evaluation import analogies, wordsim
from components.evaluation.neighbours import AMONG, ASKED, NEAREST, neighbours, plane
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.lineage import write_json, write_jsonl
from components.models.one_hot import nearest_codes, sizes
from components.models.word_vectors import open_vectors, open_words

METRICS, RECORDS = "metrics.json", "records.jsonl"


def measure(rung: Rung, ground: Ground, trained: Path, out: Path) -> dict[str, float]:
    """Analogies, word similarity, neighbours and a map of the vectors in `trained`.

    Writes `metrics.json`, `neighbours.json`, `map.json`, and of a word with two meanings
    `one_vector.json`; of each question and pair a record in `records.jsonl`. One-hot vectors are
    all as far apart, so only that is written of them.

    Raises:
        ValueError: a file of questions or pairs has a line that is none; `trained` has no vectors.
    """
    if rung.model.family == "one_hot":
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
    write_json(out / "one_vector.json", plane(vectors, AMONG))
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
