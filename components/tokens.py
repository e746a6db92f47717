"""The corpus as token numbers in flat, memory-mapped files, document borders kept."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.lineage import read_json, read_jsonl, write_json
from components.reporter import Reporter
from components.tokenizer import END, open_engine

if TYPE_CHECKING:
    import tokenizers

SPLITS = ("train", "validation", "test")
BATCH = 256  # documents: enough for all cores of the tokenizer; more costs memory, not less time


def encode_corpus(corpus: Path, tokenizer: Path, out: Path, report: Reporter) -> dict[str, float]:
    """Encode each split of `corpus` into `SPLIT.bin` and `SPLIT.offsets.npy`, and `tokens.json`.

    `.bin`: token numbers, little-endian, in the smallest unsigned type that fits the vocabulary;
    each document is followed by the end token. Offsets: int64, shape (documents + 1,). Memory is
    that of a batch and 8 bytes a document.

    Raises:
        ValueError: `corpus` lacks a split, `tokenizer` is none, or has no end token.
    """
    engine = open_engine(tokenizer)
    if engine.token_to_id(END) is None:
        raise ValueError(f"{tokenizer} has no token {END}; run 'dvc repro' to train it anew")
    kind = np.dtype("<u2" if engine.get_vocab_size() <= 1 << 16 else "<u4")
    splits: dict[str, dict[str, int]] = {}
    started = time.monotonic()
    for split in SPLITS:
        source = corpus / f"{split}.jsonl"
        if not source.is_file():
            raise ValueError(f"{source}: no such file; run 'dvc repro' to make {corpus}")
        splits[split] = _encode_split(engine, source, out / f"{split}.bin", kind, report)
    total = sum(entry["tokens"] for entry in splits.values())
    seconds = max(time.monotonic() - started, 1e-9)
    report.metrics({"tokens_per_second": total / seconds})
    about = {
        "dtype": kind.str,
        "vocab_size": engine.get_vocab_size(),
        "eos_id": engine.token_to_id(END),
        "splits": splits,
    }
    write_json(out / "tokens.json", about)
    return {f"{split}_tokens": float(splits[split]["tokens"]) for split in SPLITS}


def _encode_split(
    engine: "tokenizers.Tokenizer", source: Path, file: Path, kind: np.dtype, report: Reporter
) -> dict[str, int]:
    """Write one split; return its counts. `progress` is in bytes of `source`, about."""
    end = engine.token_to_id(END)
    borders = [np.zeros(1, np.int64)]
    size = 0
    with file.open("wb") as output:
        for texts, encoded in _overlapped(engine, _batches(source)):
            documents = [np.array([*document.ids, end], kind) for document in encoded]
            np.concatenate(documents).tofile(output)
            borders.append(borders[-1][-1] + np.cumsum([len(d) for d in documents], dtype=np.int64))
            size += sum(len(text.encode()) for text in texts)
            done = min(size, source.stat().st_size)
            report.progress(done, source.stat().st_size, f"{file.stem}: {borders[-1][-1]:,} tokens")
    offsets = np.concatenate(borders)
    np.save(file.with_name(f"{file.stem}.offsets.npy"), offsets, allow_pickle=False)
    report.progress(1, 1, f"{file.stem}: {offsets[-1]:,} tokens")
    return {"tokens": int(offsets[-1]), "documents": len(offsets) - 1, "bytes": size}


def open_tokens(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of a split, mapped from disk, shape (tokens,), and where its documents begin.

    Document n is `tokens[offsets[n] : offsets[n + 1]]`, its end token included.

    Raises:
        ValueError: `folder` has no such split, or a file is not as its description says.
    """
    if not (folder / "tokens.json").is_file():
        raise ValueError(f"{folder} has no tokens.json; run 'dvc repro' to make it")
    about = read_json(folder / "tokens.json")
    if split not in about["splits"]:
        raise ValueError(f"{folder} has no split '{split}', only {', '.join(about['splits'])}")
    counts, kind = about["splits"][split], np.dtype(about["dtype"])
    path, borders = folder / f"{split}.bin", folder / f"{split}.offsets.npy"
    expected = counts["tokens"] * kind.itemsize
    found = path.stat().st_size if path.is_file() else 0
    if found != expected or not expected:
        raise ValueError(
            f"{path} has {found} bytes where {expected} were written ({counts['tokens']} tokens); "
            f"run 'dvc checkout --force {folder}', or 'dvc repro' if that does not help"
        )
    offsets = np.load(borders, allow_pickle=False)
    if offsets.shape != (counts["documents"] + 1,) or offsets[-1] != counts["tokens"]:
        raise ValueError(
            f"{borders} does not belong to {path}; run 'dvc checkout --force {folder}'"
        )
    return np.memmap(path, dtype=kind, mode="r"), offsets


def _overlapped(
    engine: "tokenizers.Tokenizer", batches: Iterable[list[str]]
) -> Iterator[tuple[list[str], list["tokenizers.Encoding"]]]:
    """Each batch with its encodings; the next one is encoded while the caller works on this one."""
    waiting: tuple[list[str], Future] | None = None
    with ThreadPoolExecutor(1) as pool:
        for texts in batches:
            following = (texts, pool.submit(engine.encode_batch_fast, texts))
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting:
            yield waiting[0], waiting[1].result()


def _batches(path: Path) -> Iterator[list[str]]:
    texts = (row["text"] for row in read_jsonl(path))
    while batch := list(islice(texts, BATCH)):
        yield batch
