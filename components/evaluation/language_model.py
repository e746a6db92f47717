"""How well a base predicts held-out documents: bits per byte, and against a known limit.

Bits per byte compares models of different tokenizers, which a perplexity per token cannot. Where
the documents carry their exact log-probability, the ratio of the model's nats to it says how far
from the best possible model it is.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.reporter import Reporter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# of the test split, evenly spaced: the figures' error is below 1 %
DOCUMENTS = 2000
CHARACTERS = 1_000_000
BATCH_TOKENS = 8192


def evaluate_language_model(
    base: Path, corpus: Path, out: Path, report: Reporter
) -> dict[str, float]:
    """Judge the base of folder `base` on test documents of `corpus`.

    A document's nats include its end, which the model must predict as well.
    """
    from transformers import AutoTokenizer

    from components.models import llama
    from components.tokenizer import open_engine

    model = llama.load(base)
    end = AutoTokenizer.from_pretrained(base).eos_token_id
    engine = open_engine(base)
    test = read_json(corpus / "report.json")["splits"]["test"]
    every = max(1, math.ceil(test["rows"] / DOCUMENTS), math.ceil(test["characters"] / CHARACTERS))
    rows = [row for n, row in enumerate(read_jsonl(corpus / "test.jsonl")) if n % every == 0]
    encoded = [[end, *e.ids, end] for e in engine.encode_batch_fast([r["text"] for r in rows])]
    nats = document_nats(model, encoded, report)
    records = []
    for row, value, ids in zip(rows, nats, encoded, strict=True):
        record = {
            "kind": row.get("kind", "text"),
            "nats": round(value, 4),
            "tokens": len(ids) - 1,
            "bytes": len(row["text"].encode()),
            "words": len(row["text"].split()),
        }
        exact = {"exact_nats": -row["logprob"]} if "logprob" in row else {}
        records.append({**record, **exact})
    write_jsonl(out / "records.jsonl", records)
    figures = _figures(records)
    kinds = sorted({record["kind"] for record in records})
    by_kind = {kind: _figures([r for r in records if r["kind"] == kind]) for kind in kinds}
    described = {**figures, "documents": len(records), "split": "test"}
    write_json(out / "metrics.json", {**described, "by_kind": by_kind})
    return figures


def document_nats(
    model: "PreTrainedModel", documents: Sequence[Sequence[int]], report: Reporter
) -> list[float]:
    """-log p of each document's tokens after the first, in nats.

    A document longer than the context is read in pieces that overlap by half, each token judged
    once, with half a context before it or more.
    """
    context = model.config.max_position_embeddings
    pieces = [(n, *piece) for n, ids in enumerate(documents) for piece in _pieces(ids, context)]
    pieces.sort(key=lambda piece: len(piece[1]))
    found = [0.0] * len(documents)
    done = 0
    while done < len(pieces):
        longest = len(pieces[min(done + 63, len(pieces) - 1)][1])
        size = max(1, min(64, BATCH_TOKENS // longest))
        part = pieces[done : done + size]
        for (number, _, _), value in zip(part, _piece_nats(model, part), strict=True):
            found[number] += value
        done += size
        report.progress(min(done, len(pieces)), len(pieces))
    return found


def _pieces(ids: Sequence[int], context: int) -> list[tuple[Sequence[int], int]]:
    """(tokens, how many of the predictions were made by the piece before)."""
    if len(ids) <= context + 1:
        return [(ids, 0)]
    half = context // 2
    starts = range(0, len(ids) - 1 - half, half)
    return [(ids[s : s + context + 1], half if s else 0) for s in starts]


def _piece_nats(model: "PreTrainedModel", pieces: list[tuple]) -> list[float]:
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(len(ids) for _, ids, _ in pieces)
    tokens = torch.zeros((len(pieces), longest), dtype=torch.long)
    targets = torch.full((len(pieces), longest), -100)
    for row, (_, ids, known) in enumerate(pieces):
        tokens[row, : len(ids)] = torch.tensor(ids)
        targets[row, known + 1 : len(ids)] = torch.tensor(ids[known + 1 :])
    with torch.no_grad():  # padding stands behind, so causal attention never sees it
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    losses = cross_entropy(
        logits.flatten(0, 1).float(), targets[:, 1:].flatten(), ignore_index=-100, reduction="none"
    )
    return losses.view(len(pieces), -1).double().sum(1).tolist()


def _figures(records: list[dict]) -> dict[str, float]:
    nats, tokens, size, words = (
        sum(record[key] for record in records) for key in ("nats", "tokens", "bytes", "words")
    )
    figures = {
        "bits_per_byte": nats / math.log(2) / size,
        "nats_per_token": nats / tokens,
        "perplexity_per_word": math.exp(nats / words),
    }
    if all("exact_nats" in record for record in records):
        exact = sum(record["exact_nats"] for record in records)
        figures |= {"nats": nats, "exact_nats": exact, "ratio": nats / exact}
    return {key: round(value, 6) for key, value in figures.items()}
