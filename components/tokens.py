"""The corpus as token numbers in flat, memory-mapped files, document borders kept."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.lineage import read_json, write_json
from components.reporter import Reporter, Silent
from components.tokenizer import END, open_engine

if TYPE_CHECKING:
    import tokenizers

SPLITS = ("train", "validation", "test")
BATCH = 256  # documents: enough for all cores of the tokenizer; more costs memory, not less time
SHARD_BYTES = 64 << 20  # about: some ten seconds of work for two cores


@dataclass(frozen=True)
class Shard:
    """Whole lines of a split that are encoded together. begin, end: in bytes of `source`.

    kind: NumPy's name of the numbers in `file`.
    """

    source: Path
    begin: int
    end: int
    file: Path
    kind: str


Counts = dict[str, int]  # of tokens, documents and bytes of text
Spread = Callable[[Callable[[Path, Shard], Counts], Path, list[Shard]], Iterator[Counts]]


def encode_corpus(
    corpus: Path, tokenizer: Path, out: Path, report: Reporter, spread: Spread | None = None
) -> dict[str, float]:
    """Encode each split of `corpus` into `SPLIT.bin` and `SPLIT.offsets.npy`, and `tokens.json`.

    `.bin`: token numbers, little-endian, in the smallest unsigned type that fits the vocabulary;
    each document is followed by the end token. Offsets: int64, shape (documents + 1,). Memory is
    that of a batch and 8 bytes a document. spread: calls a function for a tokenizer and each of
    many shards on other machines, and yields the results in order; the bytes are the same.

    Raises:
        ValueError: `corpus` lacks a split, `tokenizer` is none, or has no end token.
    """
    engine = open_engine(tokenizer)
    if engine.token_to_id(END) is None:
        raise ValueError(f"{tokenizer} has no token {END}; run 'dvc repro' to train it anew")
    kind = np.dtype("<u2" if engine.get_vocab_size() <= 1 << 16 else "<u4")
    splits: dict[str, Counts] = {}
    started = time.monotonic()
    for split in SPLITS:
        source = corpus / f"{split}.jsonl"
        if not source.is_file():
            raise ValueError(f"{source}: no such file; run 'dvc repro' to make {corpus}")
        whole = Shard(source, 0, source.stat().st_size, out / f"{split}.bin", kind.str)
        shards = _shards(whole) if spread else []
        if len(shards) > 1:
            counts = spread(encode_shard, tokenizer, shards)
            splits[split] = _joined(whole, shards, counts, report)
        else:
            splits[split] = _encode(engine, whole, report)
    total = sum(entry["tokens"] for entry in splits.values())
    seconds = max(time.monotonic() - started, 1e-9)
    # not `tokens_per_second`, which is a training's: a rung encodes and trains in one run
    report.metrics({"encoded_tokens_per_second": total / seconds})
    about = {
        "dtype": kind.str,
        "vocab_size": engine.get_vocab_size(),
        "eos_id": engine.token_to_id(END),
        "splits": splits,
    }
    write_json(out / "tokens.json", about)
    return {f"{split}_tokens": float(splits[split]["tokens"]) for split in SPLITS}


def encode_shard(tokenizer: Path, shard: Shard) -> Counts:
    """Encode `shard` into its file and the offsets beside it, which begin with 0.

    Raises:
        ValueError: `tokenizer` is none.
    """
    return _encode(open_engine(tokenizer), shard, Silent())


def _encode(engine: "tokenizers.Tokenizer", shard: Shard, report: Reporter) -> Counts:
    """As `encode_shard`. `progress` is in bytes of `source`, about."""
    end, kind, total = engine.token_to_id(END), np.dtype(shard.kind), shard.end - shard.begin
    borders = [np.zeros(1, np.int64)]
    size, name = 0, shard.file.stem
    with shard.file.open("wb") as output:
        for texts, encoded in _overlapped(engine, _batches(shard)):
            documents = [np.array([*document.ids, end], kind) for document in encoded]
            np.concatenate(documents).tofile(output)
            borders.append(borders[-1][-1] + np.cumsum([len(d) for d in documents], dtype=np.int64))
            size += sum(len(text.encode()) for text in texts)
            report.progress(min(size, total), total, f"{name}: {borders[-1][-1]:,} tokens")
    offsets = np.concatenate(borders)
    np.save(_offsets(shard.file), offsets, allow_pickle=False)
    report.progress(1, 1, f"{name}: {offsets[-1]:,} tokens")
    return {"tokens": int(offsets[-1]), "documents": len(offsets) - 1, "bytes": size}


def _offsets(file: Path) -> Path:
    return file.with_name(f"{file.stem}.offsets.npy")


def _shards(whole: Shard) -> list[Shard]:
    """`whole` in shards of about `SHARD_BYTES`, each with a file of its own."""
    shards, begin = [], 0
    with whole.source.open("rb") as lines:
        while begin < whole.end:
            lines.seek(begin + SHARD_BYTES)
            lines.readline()
            end = min(lines.tell(), whole.end)
            file = whole.file.with_name(f"{whole.file.stem}-{len(shards):05}.bin")
            shards.append(Shard(whole.source, begin, end, file, whole.kind))
            begin = end
    return shards


def _joined(
    whole: Shard, shards: list[Shard], counted: Iterator[Counts], report: Reporter
) -> Counts:
    """Make the file of `whole` of those of `shards`, which go; return the sums of their counts."""
    total = dict.fromkeys(("tokens", "documents", "bytes"), 0)
    borders = [np.zeros(1, np.int64)]
    with whole.file.open("wb") as output:
        for shard, counts in zip(shards, counted, strict=True):
            borders.append(np.load(_offsets(shard.file), allow_pickle=False)[1:] + total["tokens"])
            with shard.file.open("rb") as part:
                shutil.copyfileobj(part, output)
            shard.file.unlink()
            _offsets(shard.file).unlink()
            total = {key: value + counts[key] for key, value in total.items()}
            note = f"{whole.file.stem}: {total['tokens']:,} tokens"
            report.progress(shard.end, whole.end, note)
    np.save(_offsets(whole.file), np.concatenate(borders), allow_pickle=False)
    return total


def open_tokens(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of a split, shape (tokens,), and where its documents begin, mapped from disk.

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
    path = folder / f"{split}.bin"
    borders = _offsets(path)
    expected = counts["tokens"] * kind.itemsize
    found = path.stat().st_size if path.is_file() else 0
    if found != expected or not expected:
        raise ValueError(
            f"{path} has {found} bytes where {expected} were written ({counts['tokens']} tokens); "
            f"run 'dvc checkout --force {folder}', or 'dvc repro' if that does not help"
        )
    offsets = np.load(borders, mmap_mode="r", allow_pickle=False)
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


def _batches(shard: Shard) -> Iterator[list[str]]:
    texts = _texts(shard)
    while batch := list(islice(texts, BATCH)):
        yield batch


def _texts(shard: Shard) -> Iterator[str]:
    with shard.source.open("rb") as lines:
        lines.seek(shard.begin)
        at = shard.begin
        while at < shard.end:
            line = lines.readline()
            at += len(line)
            yield json.loads(line)["text"]
