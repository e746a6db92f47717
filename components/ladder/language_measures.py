"""What models of the next token are worth: how well they predict, and how far back they look."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluation.language_model import figures_of, read_documents, sample
from components.evaluation.metrics import score_of
from components.ladder import arithmetic, reach, senses
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.ladder.language import load, reader, states
from components.lineage import read_json, write_json, write_jsonl
from components.tokenizer import END, open_engine

if TYPE_CHECKING:
    import tokenizers
    import torch


def measure(rung: Rung, ground: Ground, trained: Path, out: Path) -> dict[str, float]:
    """How well the test split is predicted, how far back the model looks, and what it makes of a
    word with two meanings; of stories with sums, whether it can add.
    """
    model = load(rung, ground.vocabulary, trained)
    engine = open_engine(ground.vocabulary)
    end, test = engine.token_to_id(END), ground.corpus / "test.jsonl"
    reads = reader(rung, model)
    records = read_documents(reads, engine, end, sample(test), ground.report)
    write_jsonl(out / "records.jsonl", records)
    figures = _judged(records)
    texts = [row["text"] for row in sample(test)]
    encoded = [[end, *e.ids] for e in engine.encode_batch_fast(texts)]
    write_json(out / "reach.json", reach.measure(model, reads, encoded, rung.model.context))
    figures |= _senses(rung, model, engine, test, out)
    about = read_json(trained / "training.json")
    counts = {key: about[key] for key in ("parameters", "tokens")}
    write_json(out / "metrics.json", {**figures, **counts, "unknown": _unknown(engine, encoded)})
    told = {name: figure["score"] for name, figure in figures.items()}
    solved = arithmetic.solve(reads, engine, end, test)
    if solved:
        write_json(out / "arithmetic.json", solved)
        told |= {"exact_match": solved["all"]["exact_match"]["score"]}
    return told


def _judged(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Perplexity of a word and bits of a byte, with intervals over documents; the ratio to the
    best possible model where it is known.
    """
    sums = [{"statistics": [r["nats"], r["bytes"], r["words"]], "correct": 0} for r in records]
    figures: dict[str, Any] = {}
    for name, metric in METRICS.items():
        score, interval = score_of(sums, metric)
        figures[name] = {"score": score, "interval": interval, "n": len(records)}
    plain = figures_of(list(records))
    if "ratio" in plain:
        figures["ratio"] = {"score": plain["ratio"], "interval": [plain["ratio"]] * 2}
    return figures


METRICS = {"perplexity_per_word": "word_perplexity", "bits_per_byte": "bits_per_byte"}


def _unknown(engine: "tokenizers.Tokenizer", encoded: Sequence[Sequence[int]]) -> float:
    """The share of test tokens that the vocabulary lacks: a model names them all alike."""
    unknown = getattr(engine.model, "unk_token", None)
    number = engine.token_to_id(unknown) if unknown else None
    tokens = np.concatenate([np.array(ids[1:], dtype=np.int64) for ids in encoded])
    return 0.0 if number is None else round(float((tokens == number).mean()), 6)


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
    told = senses.told_apart(np.stack(vectors), [row["sense"] for row in found])
    write_json(out / "senses.json", {**told, "texts": [row["text"] for row in found]})
    return {"senses": {"score": told["score"], "interval": told["interval"], "n": told["n"]}}
