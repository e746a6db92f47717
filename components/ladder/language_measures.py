"""What models of the next token are worth: how well they predict, and how far back they look."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluation.language_model import read_documents, sample
from components.evaluation.metrics import bootstrap_interval, score_of
from components.evaluation.spelling import speller_of, unknown_words
from components.ladder import arithmetic, reach, senses
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.ladder.language import load, reader, states
from components.ladder.word_rows import write_neighbours
from components.lineage import read_json, write_json, write_jsonl
from components.tokenizer import END, open_engine
from components.tokenizer_kinds import UNKNOWN

if TYPE_CHECKING:
    import tokenizers
    import torch


CHARACTERS = 2_000_000  # of the test split: all of WikiText-2's, as published figures are of
# the nats of a record, and what is made of them; `named` leaves the spelling of unknown words out,
# as the published figures of closed vocabularies do
METRICS = {
    "perplexity_per_word": ("nats", "word_perplexity"),
    "bits_per_byte": ("nats", "bits_per_byte"),
    "perplexity_named": ("named", "word_perplexity"),
}


def measure(rung: Rung, ground: Ground, trained: Path, out: Path) -> dict[str, float]:
    """How well the test split is predicted, how far back the model looks, what it makes of a word
    with two meanings, and which words are near each other; of stories with sums, whether it can
    add.
    """
    model = load(rung, ground.vocabulary, trained)
    engine = open_engine(ground.vocabulary)
    end, test = engine.token_to_id(END), ground.corpus / "test.jsonl"
    reads = reader(rung, model)
    rows = sample(test, CHARACTERS)
    texts = [row["text"] for row in rows]
    records = read_documents(reads, engine, end, rows, ground.report)
    records = _spelled(records, engine, ground.corpus / "train.jsonl", texts)
    write_jsonl(out / "records.jsonl", records)
    figures = _judged(records)
    encoded = [[end, *e.ids] for e in engine.encode_batch_fast(texts)]
    write_json(out / "reach.json", reach.measure(model, reads, encoded, rung.model.context))
    figures |= _senses(rung, model, engine, test, out)
    write_neighbours(engine, model.get_input_embeddings().weight, texts, out)
    about = read_json(trained / "training.json")
    counts = {key: about[key] for key in ("parameters", "tokens")}
    write_json(out / "metrics.json", {**figures, **counts, "unknown": _unknown(records)})
    told = {name: figure["score"] for name, figure in figures.items()}
    solved = arithmetic.solve(reads, engine, end, test)
    if solved:
        write_json(out / "arithmetic.json", solved)
        told |= {"exact_match": solved["all"]["exact_match"]["score"]}
    return told


def _spelled(
    records: Sequence[dict[str, Any]],
    engine: "tokenizers.Tokenizer",
    train: Path,
    texts: Sequence[str],
) -> list[dict[str, Any]]:
    """Each record with the nats that `spelling` adds for the words that the vocabulary lacks.

    named: the nats without it. unknown: how many such words.
    """
    if engine.token_to_id(UNKNOWN) is None:  # of bytes, or of parts of words: it lacks none
        return [{**record, "named": record["nats"], "unknown": 0} for record in records]
    speller = speller_of(engine, train)
    spelled = []
    for record, words in zip(records, unknown_words(engine, texts), strict=True):
        nats = record["nats"] + sum(map(speller.nats, words))
        lacking = sum(word != UNKNOWN for word in words)
        counts = {"named": record["nats"], "unknown": lacking}
        spelled.append({**record, **counts, "nats": round(nats, 4)})
    return spelled


def _judged(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Perplexity of a word and bits of a byte, with intervals over documents; the ratio to the
    best possible model where it is known.
    """
    figures: dict[str, Any] = {}
    for name, (nats, metric) in METRICS.items():
        sums = [{"statistics": [r[nats], r["bytes"], r["words"]], "correct": 0} for r in records]
        score, interval = score_of(sums, metric)
        figures[name] = {"score": score, "interval": interval, "n": len(records)}
    if all("exact_nats" in record for record in records):
        pairs = np.array([[r["nats"], r["exact_nats"]] for r in records])
        interval = bootstrap_interval(pairs, score=_ratio)
        figures["ratio"] = {"score": float(_ratio(pairs.sum(axis=0))), "interval": [*interval]}
    return figures


def _ratio(sums: np.ndarray) -> np.ndarray:
    """From sums of nats and of exact nats, shape (..., 2)."""
    return sums[..., 0] / sums[..., 1]


def _unknown(records: Sequence[dict[str, Any]]) -> float:
    """The share of test tokens that the vocabulary lacks."""
    share = sum(r["unknown"] for r in records) / sum(r["tokens"] for r in records)
    return round(share, 6)


def _senses(
    rung: Rung, model: "torch.nn.Module", engine: "tokenizers.Tokenizer", test: Path, out: Path
) -> dict[str, Any]:
    """What the states of the word of `senses` tell of its meaning, as far as was read."""
    import torch

    found, end = senses.sentences(test), engine.token_to_id(END)
    vectors = []
    with torch.no_grad():
        for row in found:
            encoding = engine.encode(row["text"])
            stop = senses.place_of(row["text"]) + len(senses.WORD)
            last = max(n for n, (begin, _) in enumerate(encoding.offsets) if begin < stop)
            ids = torch.tensor([[end, *encoding.ids[: last + 1]]])
            vectors.append(states(rung, model, ids)[0, -1].numpy())
    judged = senses.judge(np.stack(vectors), found)
    write_json(out / "senses.json", judged)
    return senses.figures(judged)
