"""The corpus as token numbers in flat, memory-mapped files, document borders kept."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from components.lineage import read_json, read_jsonl, write_json
from components.reporter import Reporter
from components.tokenizer import END, open_engine

SPLITS = ("train", "validation", "test")
BATCH = 2048  # documents: enough to keep all cores of the tokenizer busy, some MB of text


def encode_corpus(corpus: Path, tokenizer: Path, out: Path, report: Reporter) -> dict[str, float]:
    """Encode each split of `corpus` into `SPLIT.bin` and `SPLIT.offsets.npy`, and `tokens.json`.

    `.bin`: token numbers, little-endian, in the smallest unsigned type that fits the vocabulary;
    each document is followed by the end token. Offsets: int64, shape (documents + 1,).
    """
    engine = open_engine(tokenizer)
    size = engine.get_vocab_size()
    kind = np.dtype("<u2" if size <= 1 << 16 else "<u4")
    end = engine.token_to_id(END)
    splits = {}
    started = time.monotonic()
    for done, split in enumerate(SPLITS):
        lengths, size_in_bytes = [], 0
        with (out / f"{split}.bin").open("wb") as file:
            for texts in _batches(corpus / f"{split}.jsonl"):
                encoded = [e.ids for e in engine.encode_batch_fast(texts)]
                lengths += [len(ids) + 1 for ids in encoded]
                size_in_bytes += sum(len(text.encode()) for text in texts)
                flat = [number for ids in encoded for number in (*ids, end)]
                np.array(flat, dtype=kind).tofile(file)
                report.progress(done, len(SPLITS), f"{split}: {sum(lengths):,} tokens")
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        np.save(out / f"{split}.offsets.npy", offsets, allow_pickle=False)
        splits[split] = {
            "tokens": int(offsets[-1]),
            "documents": len(lengths),
            "bytes": size_in_bytes,
        }
    total = sum(entry["tokens"] for entry in splits.values())
    report.metrics({"tokens_per_second": total / (time.monotonic() - started)})
    report.progress(len(SPLITS), len(SPLITS), f"{total:,} tokens")
    about = {"dtype": kind.str, "vocab_size": size, "eos_id": end, "splits": splits}
    write_json(out / "tokens.json", about)
    return {f"{split}_tokens": float(splits[split]["tokens"]) for split in SPLITS}


def open_tokens(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of a split, mapped from disk, and where its documents begin.

    Raises:
        ValueError: the file is cut short or longer than its description.
    """
    about = read_json(folder / "tokens.json")
    path = folder / f"{split}.bin"
    kind = np.dtype(about["dtype"])
    expected = about["splits"][split]["tokens"] * kind.itemsize
    if path.stat().st_size != expected:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, {expected} were written; "
            f"run 'dvc checkout --force {folder}' or 'dvc repro'"
        )
    offsets = np.load(folder / f"{split}.offsets.npy", allow_pickle=False)
    return np.memmap(path, dtype=kind, mode="r"), offsets


def _batches(path: Path) -> Iterator[list[str]]:
    batch: list[str] = []
    for row in read_jsonl(path):
        batch.append(row["text"])
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
