"""Files of rows, one a split: `train.jsonl`, `validation.jsonl`, `test.jsonl`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from components.lineage import read_jsonl, write_jsonl

SPLITS = ("train", "validation", "test")
STEPS_END = "####"  # between worked steps and the answer (Cobbe et al. 2021)
QUANTILES = ("0", "5", "50", "95", "100")  # per cent of the rows are at most so long


def normalised(row: Mapping[str, Any]) -> str:
    """What makes two rows the same to a reader: the text whatever its case and spacing."""
    asked = [row.get("text") or row["source"], *row.get("extra", {}).values()]
    return " ".join(" ".join(asked).casefold().split())


def digest(text: str) -> bytes:
    """A hash to find equal texts by."""
    return blake2b(text.encode(), digest_size=16).digest()


def drop(file: Path, held: set[bytes]) -> int:
    """Drop the rows of `file` whose text is in `held`; return how many."""
    total = 0

    def kept() -> Iterator[dict]:
        nonlocal total
        for row in read_jsonl(file):
            total += 1
            if digest(normalised(row)) not in held:
                yield row

    cleaned = file.with_name(f".{file.name}")
    written = write_jsonl(cleaned, kept())
    cleaned.replace(file)
    return total - written


def require_rows(path: Path, counts: Mapping[str, Mapping[str, Any]], leaks: int) -> None:
    """Insist on rows in every split; `path` is where they came from.

    Raises:
        ValueError: a split has none.
    """
    if empty := [split for split in SPLITS if not counts[split]["rows"]]:
        told = ", ".join(f"{split} {counts[split]['rows']}" for split in SPLITS)
        raise ValueError(
            f"{path}: no rows are left for {' and '.join(empty)} ({told}; {leaks} leaks dropped); "
            "add data, or name a file for each split under splits"
        )


def _quantiles(lengths: Counter[int]) -> dict[str, int]:
    """The least length that each of `QUANTILES` per cent of the rows do not exceed."""
    total, passed, found = lengths.total(), 0, {}
    waiting = list(QUANTILES)
    for length in sorted(lengths):
        passed += lengths[length]
        while waiting and passed >= total * int(waiting[0]) / 100:
            found[waiting.pop(0)] = length
    return found


def describe(file: Path) -> dict[str, Any]:
    """Counts of a split: rows, labels or kinds, and quantiles of the length."""
    characters: Counter[int] = Counter()
    words: Counter[int] = Counter()
    groups: Counter[str] = Counter()
    for row in read_jsonl(file):
        text = document(row)
        characters[len(text)] += 1
        words[len(text.split())] += 1
        groups[row.get("label") or row.get("kind") or "text"] += 1
    return {
        "rows": groups.total(),
        "characters": sum(length * count for length, count in characters.items()),
        "words": sum(length * count for length, count in words.items()),
        "groups": dict(sorted(groups.items())),
        "length_quantiles": _quantiles(characters),
        "word_quantiles": _quantiles(words),
    }


def document(row: Mapping[str, Any]) -> str:
    """A row as a language model reads it: a pair is its source, a line break, and its target.

    Worked steps stand before the target as in GSM8K.
    """
    if "text" in row:
        return row["text"]
    asked = [row["source"], *filter(None, row.get("extra", {}).values())]
    worked = [row["steps"], f"{STEPS_END} {row['target']}"] if "steps" in row else [row["target"]]
    return "\n".join(asked + worked)
