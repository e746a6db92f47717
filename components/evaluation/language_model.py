"""How well a base predicts held-out documents: bits per byte, and against a known limit.

Bits per byte compares models of different tokenizers, which a perplexity per token cannot. Where
the documents carry their exact log-probability, the ratio of the model's nats to it says how far
from the best possible model it is.
"""

import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from components.evaluation.document_nats import Reader, document_nats, reader_of
from components.lineage import read_jsonl, write_json, write_jsonl
from components.reporter import Reporter
from components.tokenizer import open_engine
from components.training import machine

if TYPE_CHECKING:
    import tokenizers

# of the test split, evenly spaced: the figures' error is below 1 %
DOCUMENTS = 2000
CHARACTERS = 1_000_000


def evaluate_language_model(
    base: Path, corpus: Path, out: Path, report: Reporter
) -> dict[str, float]:
    """Judge the base of folder `base` on test documents of `corpus`.

    A document's nats include its end, which the model must predict as well.
    """
    from transformers import AutoTokenizer

    from components.models import llama

    reader = reader_of(llama.load(base).to(machine.device()))
    end = AutoTokenizer.from_pretrained(base).eos_token_id
    rows = sample(corpus / "test.jsonl")
    records = read_documents(reader, open_engine(base), end, rows, report)
    write_jsonl(out / "records.jsonl", records)
    figures = figures_of(records)
    kinds = sorted({record["kind"] for record in records})
    by_kind = {kind: figures_of([r for r in records if r["kind"] == kind]) for kind in kinds}
    described = {**figures, "documents": len(records), "split": "test"}
    write_json(out / "metrics.json", {**described, "by_kind": by_kind})
    return figures


def sample(file: Path, characters: int = CHARACTERS) -> list[dict]:
    """Rows of a split, evenly spaced, of about `characters`: all of a small one."""
    lengths = [len(row["text"]) for row in read_jsonl(file)]
    every = max(1, math.ceil(len(lengths) / DOCUMENTS), math.ceil(sum(lengths) / characters))
    return [row for n, row in enumerate(read_jsonl(file)) if n % every == 0]


def read_documents(
    reader: Reader, engine: "tokenizers.Tokenizer", end: int, rows: list[dict], report: Reporter
) -> list[dict]:
    """A record for each row: its nats, what it has of tokens, bytes and words, and its exact nats
    where they are known. end: the token between documents.
    """
    encoded = [[end, *e.ids, end] for e in engine.encode_batch_fast([r["text"] for r in rows])]
    nats = document_nats(reader, encoded, report)
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
    return records


def figures_of(records: list[dict]) -> dict[str, float]:
    """A corpus's figures; without a perplexity per word where no float holds it, as of a script
    without spaces, whose "words" are whole paragraphs.
    """
    nats, tokens, size, words = (
        sum(record[key] for record in records) for key in ("nats", "tokens", "bytes", "words")
    )
    figures = {
        "bits_per_byte": nats / math.log(2) / size,
        "nats_per_token": nats / tokens,
    }
    with suppress(OverflowError):
        figures["perplexity_per_word"] = math.exp(nats / words)
    if all("exact_nats" in record for record in records):
        exact = sum(record["exact_nats"] for record in records)
        figures |= {"nats": nats, "exact_nats": exact, "ratio": nats / exact}
    return {key: round(value, 6) for key, value in figures.items()}
