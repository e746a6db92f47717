"""What `encode_corpus` costs beside the tokenizer alone: `python bench/tokens.py [TEXT_FILE]`.

A is `encode_batch_fast` on texts in memory, B all of `encode_corpus`: reading JSON, encoding,
writing files. They alternate, so that a busy machine slows both; the medians are compared.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from components.lineage import read_jsonl, write_jsonl
from components.reporter import Silent
from components.tokenizer import Tokenizer, open_engine, train_tokenizer
from components.tokens import BATCH, SPLITS, encode_corpus

LEAST = 0.8  # of the tokenizer's own speed
DOCUMENT = 2000  # characters


def synthetic(characters: int) -> str:
    """Words of a made-up language, some frequent and most rare, as in a real one (Zipf)."""
    draw = random.Random(0)
    letters = "etaoinshrdlu"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(20_000)]
    ranks = [1 / rank for rank in range(1, len(words) + 1)]
    return " ".join(draw.choices(words, ranks, k=characters // 6))


def write_corpus(text: str, folder: Path) -> None:
    rows = [{"text": text[n : n + DOCUMENT]} for n in range(0, len(text), DOCUMENT)]
    few = max(len(rows) // 50, 1)
    parts = (rows[2 * few :], rows[:few], rows[few : 2 * few])
    for split, part in zip(SPLITS, parts, strict=True):
        write_jsonl(folder / f"{split}.jsonl", part)


def alone(folder: Path, tokenizer: Path) -> float:
    """Seconds of `encode_batch_fast` for all texts, in the batches of `encode_corpus`."""
    engine = open_engine(tokenizer)
    seconds = 0.0
    for split in SPLITS:
        texts = [row["text"] for row in read_jsonl(folder / f"{split}.jsonl")]
        started = time.perf_counter()
        for n in range(0, len(texts), BATCH):
            engine.encode_batch_fast(texts[n : n + BATCH])
        seconds += time.perf_counter() - started
    return seconds


def whole(folder: Path, tokenizer: Path) -> tuple[float, int]:
    """Seconds of `encode_corpus`, and the tokens it wrote."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        figures = encode_corpus(folder, tokenizer, Path(out), Silent())
        return time.perf_counter() - started, int(sum(figures.values()))


def measure(text: str, vocab_size: int, rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder, tokenizer = Path(name) / "corpus", Path(name) / "tokenizer"
        folder.mkdir()
        tokenizer.mkdir()
        write_corpus(text, folder)
        train_tokenizer(Tokenizer(vocab_size=vocab_size), folder, tokenizer, Silent())
        alone(folder, tokenizer)  # warm: threads started, files in memory
        a, b = [], []
        for _ in range(rounds):
            a.append(alone(folder, tokenizer))
            seconds, tokens = whole(folder, tokenizer)
            b.append(seconds)
    alone_seconds, whole_seconds = statistics.median(a), statistics.median(b)
    return {
        "tokens": tokens,
        "alone_tokens_per_second": round(tokens / alone_seconds),
        "encode_corpus_tokens_per_second": round(tokens / whole_seconds),
        "ratio": round(alone_seconds / whole_seconds, 3),
        "least": LEAST,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text", nargs="?", type=Path, help="a UTF-8 text file; else synthetic")
    parser.add_argument("--megabytes", type=float, default=10.0, help="of synthetic text")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    text = given.text.read_text("utf-8") if given.text else synthetic(int(given.megabytes * 1e6))
    found = measure(text, given.vocab_size, given.rounds)
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps(found), encoding="utf-8")
    sys.exit(0 if found["ratio"] >= LEAST else f"ratio {found['ratio']} is below {LEAST}")


if __name__ == "__main__":
    main()
