"""What tells kinds of tokenizers apart: how long texts get, what is unknown, what comes back."""

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.evaluation.metrics import bootstrap_interval
from components.lineage import read_json, write_json
from components.reporter import Reporter
from components.tokenizer import open_engine, texts_of
from components.tokenizer_kinds import UNKNOWN

if TYPE_CHECKING:
    import tokenizers

JUDGED = ("validation", "test")
SPEED = "bytes_per_second"  # at which the test split was cut, by a thread a core
SENTENCE = "Hey, isn't it a good time to be alive?"  # the one that every kind cuts
BATCH = 256  # documents encoded at once
COUNTS = ("tokens", "words", "bytes", "unknown", "own_unknown", "unknown_words", "failures", "one")
# each a share of two counts
RATIOS = {
    "tokens_per_word": ("tokens", "words"),
    "bytes_per_token": ("bytes", "tokens"),
    "unknown_tokens": ("unknown", "tokens"),
    "own_unknown_tokens": ("own_unknown", "tokens"),
    "unknown_words": ("unknown_words", "words"),
    "round_trip_failures": ("failures", "one"),
}


def measure_tokenizer(
    folder: Path, corpus: Path, out: Path, report: Reporter, sentence: str = SENTENCE
) -> dict[str, float]:
    """Write `measures.json` on the held-out documents of `corpus`, and how `sentence` is cut.

    Words are what white space parts, whatever the kind, so that kinds compare. tokens_per_word and
    bytes_per_token: lengths. unknown_tokens: the share of tokens; own_unknown_tokens: of those that
    the text itself writes as `<unk>`; unknown_words: the share of words with an unknown part.
    round_trip_failures: the share of documents that do not come back as they were. Each by split
    with its 95 % interval over documents. Speed is reported, and kept out of the folder.

    Raises:
        ValueError: `folder` holds no tokenizer.
    """
    engine = open_engine(folder)
    splits = {}
    for done, split in enumerate(JUDGED):
        counts, seconds = _count(engine, corpus, split)
        splits[split] = {name: _ratio(counts, *parts) for name, parts in RATIOS.items()}
        splits[split]["documents"] = len(counts)
        speed = float(_column(counts, "bytes").sum() / seconds)
        report.metrics({f"{split}_bytes_per_second": speed})
        report.progress(done + 1, len(JUDGED), split)
    measures = {
        "vocab_size": read_json(folder / "statistics.json")["vocab_size"],
        "splits": splits,
        "sentence": {"text": sentence, "tokens": cut(engine, sentence)},
    }
    write_json(out / "measures.json", measures)
    return {**{name: splits["test"][name]["score"] for name in RATIOS}, SPEED: speed}


def cut(engine: "tokenizers.Tokenizer", text: str) -> list[dict]:
    """The tokens of `text`: as the vocabulary writes them, where they stand, whether unknown.

    Of tokens that share a character, as the bytes of one do, the last has it.
    """
    found = engine.encode(text)
    nexts = [*(begin for begin, _ in found.offsets[1:]), len(text)]
    told = []
    for number, (begin, end), following in zip(found.ids, found.offsets, nexts, strict=True):
        token = engine.id_to_token(number)  # `found.tokens` has an unknown piece as it is written
        place = {"begin": begin, "end": min(end, following)}
        told.append({"token": token, **place, "unknown": token == UNKNOWN})
    return told


def _count(engine: "tokenizers.Tokenizer", corpus: Path, split: str) -> tuple[np.ndarray, float]:
    """`COUNTS` of each document, shape (documents, counts), and the seconds that encoding took."""
    unknown = engine.token_to_id(UNKNOWN)
    rows, seconds = [], 1e-9
    for texts in _batches(texts_of(corpus, split)):
        started = time.perf_counter()
        encoded = engine.encode_batch(texts)
        seconds += time.perf_counter() - started
        decoded = engine.decode_batch([e.ids for e in encoded], skip_special_tokens=False)
        rows += [_of_text(*each, unknown) for each in zip(texts, encoded, decoded, strict=True)]
    return np.array(rows, np.float64), seconds


def _of_text(
    text: str, encoded: "tokenizers.Encoding", decoded: str, unknown: int | None
) -> Sequence[int]:
    places = [n for n, number in enumerate(encoded.ids) if number == unknown]
    spans = [encoded.offsets[n] for n in places]
    words = _word_starts(text)
    hit = {bisect_right(words, begin) for begin, _ in spans}
    own = sum(text[begin:end] == UNKNOWN for begin, end in spans)
    failed = int(text != decoded)
    size = len(text.encode())
    return (len(encoded.ids), len(words), size, len(places), own, len(hit), failed, 1)


def _word_starts(text: str) -> list[int]:
    starts, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        starts.append(at)
        at += len(word)
    return starts


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(texts, BATCH)):
        yield batch


def _column(counts: np.ndarray, name: str) -> np.ndarray:
    return counts[:, COUNTS.index(name)]


def _ratio(counts: np.ndarray, above: str, below: str) -> dict[str, object]:
    """Of sums over documents, with its interval."""
    pairs = np.stack([_column(counts, above), _column(counts, below)], axis=1)  # (documents, 2)

    def score(sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]

    return {
        "score": float(score(pairs.sum(axis=0))),
        "interval": [*bootstrap_interval(pairs, score=score)],
    }
