"""How fast the embedded world is written: `python bench/world.py [--json FILE]`.

Its documents with their exact log-probabilities, until they hold a million tokens of the
quickstart's kind of tokenizer (byte-level BPE, 2,048 entries, trained on the first of them).
"""

import argparse
import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

from components.lineage import write_jsonl
from components.reporter import Silent
from components.tokenizer import Tokenizer, open_engine, train_tokenizer
from components.world import documents

TOKENS = 1_000_000
SAMPLE = 5_000  # documents, for the tokenizer and the mean length
ROUNDS = 3


def tokens_per_document() -> float:
    sample = [{"text": row["text"]} for row in islice(documents(SAMPLE, 0), SAMPLE)]
    with tempfile.TemporaryDirectory() as name:
        corpus, out = Path(name) / "corpus", Path(name) / "tokenizer"
        corpus.mkdir()
        out.mkdir()
        for split in ("train", "validation", "test"):
            write_jsonl(corpus / f"{split}.jsonl", sample)
        train_tokenizer(Tokenizer(vocab_size=2048), corpus, out, Silent())
        encoded = open_engine(out).encode_batch_fast([row["text"] for row in sample])
    return sum(len(document.ids) + 1 for document in encoded) / len(sample)  # each ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    count = round(TOKENS / tokens_per_document())
    taken = []
    for seed in range(ROUNDS):
        started = time.perf_counter()
        assert sum(1 for _ in documents(count, seed)) == count
        taken.append(time.perf_counter() - started)
    told = {"documents": count, "tokens": TOKENS, "seconds": round(statistics.median(taken), 2)}
    print(json.dumps(told))
    if given.json:
        given.json.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
