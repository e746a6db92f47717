"""What models that translate are worth, and what they look at."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.ladder.alignments import alignment_error_rate, heat_maps
from components.ladder.block import Rung
from components.ladder.ground import Ground
from components.ladder.heads import PHRASE, lookup, roles
from components.ladder.meanings import projection, sentences_of
from components.ladder.pairs import Vocabulary, open_vocabulary, spaced
from components.ladder.translating import (
    SEARCHES,
    by_length,
    judged_sentences,
    scores,
    translate,
)
from components.ladder.word_rows import write_neighbours
from components.lineage import read_jsonl, write_json, write_jsonl
from components.models import translation
from components.world_words import SYNTAX

if TYPE_CHECKING:
    from components.models.transformer import Transformer

ALIGNED = 500  # pairs with a gold alignment
LOOKED_AT = 300  # sentences that heads are watched on
HEADLINE = "beam"  # the search that figures speak of where they name none


def measure(rung: Rung, ground: Ground, trained: Path, out: Path) -> dict[str, float]:
    """Judge `trained` on the test pairs: `metrics.json`, `records.jsonl` (a sentence each), and
    for pictures and tables `alignments.json`, `projection.json`, `neighbours.json`, and of a
    Transformer `heads.json`, `lookup.json` and `positions.npy`.

    Sentences of more than `longest` tokens are cut before they are translated, and counted; what
    looks at tokens leaves them out. Where too few are left to show, the file is not written.
    """
    model, block = translation.load(trained)
    vocabulary = open_vocabulary(ground.vocabulary)
    rows = list(read_jsonl(ground.corpus / "test.jsonl"))
    records = judged_sentences(rows)
    sources = [record["source"] for record in records]
    for done, search in enumerate(SEARCHES):
        ground.report.progress(done, len(SEARCHES), f"{search}: {len(sources)} sentences")
        texts, cut = translate(model, vocabulary, sources, block.longest, search)
        records = [{**r, search: text} for r, text in zip(records, texts, strict=True)]
    write_jsonl(out / "records.jsonl", records)
    linked = [row for row in rows if "alignment" in row]
    fitting = [r for r in linked if vocabulary.fits(block.longest, r["source"], r["target"])]
    gold = spaced(fitting, ALIGNED)
    metrics = {
        **{search: scores(records, search) for search in SEARCHES},
        "by_length": by_length(records, HEADLINE),
        "alignment": alignment_error_rate(model, vocabulary, gold) if gold else None,
        "cut": cut,
    }
    write_json(out / "metrics.json", metrics)
    orders, reordered = sentences_of(rows)
    texts, _ = translate(model, vocabulary, reordered, block.longest, HEADLINE)
    pairs = [p for p in zip(reordered, texts, strict=True) if vocabulary.fits(block.longest, *p)]
    both = (row[side] for side in ("source", "target") for row in rows)
    write_neighbours(vocabulary.engine, model.embedding.weight, both, out)
    maps = heat_maps(model, vocabulary, pairs)
    write_json(out / "alignments.json", maps)
    orders = [(acts, text) for acts, text in orders if vocabulary.fits(block.longest, text)]
    if len(orders) > 1:
        write_json(out / "projection.json", projection(model, vocabulary, orders))
    if block.family == "transformer":
        _look_inside(model, vocabulary, ground.corpus, rows, out)
    return _figures(metrics)


def _look_inside(
    model: "Transformer",
    vocabulary: Vocabulary,
    corpus: Path,
    rows: Sequence[dict[str, Any]],
    out: Path,
) -> None:
    """Write what only a Transformer has: heads, a lookup, positions."""
    train = vocabulary.encode([row["source"] for row in read_jsonl(corpus / "train.jsonl")])
    frequency = Counter(token for tokens in train for token in tokens)
    relations = SYNTAX if "alignment" in rows[0] else {}
    short = [row["source"] for row in rows if vocabulary.fits(model.longest, row["source"])]
    texts = spaced(short, LOOKED_AT)
    if texts:
        write_json(out / "heads.json", roles(model, vocabulary, texts, frequency, relations))
    if vocabulary.fits(model.longest, PHRASE):
        write_json(out / "lookup.json", lookup(model, vocabulary))
    np.save(out / "positions.npy", model.positions.numpy(), allow_pickle=False)


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    found = {metric: metrics[HEADLINE][metric]["score"] for metric in metrics[HEADLINE]}
    found["bleu_greedy"] = metrics["greedy"]["bleu"]["score"]
    if metrics["alignment"]:
        found["alignment_error_rate"] = metrics["alignment"]["score"]
    return {name: float(value) for name, value in found.items()}
