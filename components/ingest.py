"""Data sets: read in any of the catalogue's formats, checked, deduplicated and split.

Rows are streamed. What grows with the data is a hash of each row, kept to find duplicates: about
100 bytes of memory a row, whatever its length.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from components.dataset import SHOWN, Dataset
from components.lineage import write_json
from components.readers import Raw, raw_rows
from components.reporter import Reporter
from components.splits import SPLITS, STEPS_END, describe, digest, drop, normalised, require_rows

HELD_OUT = 0.05  # of the rows, for validation and for test each
REPORT_ROWS = 20_000  # between two reports of progress


def ingest(block: Dataset, path: Path, out: Path, report: Reporter) -> dict[str, float]:
    """Read the data at `path` into `out`: `SPLIT.jsonl` and `report.json`.

    Rows are {"text"} (of the world also "kind", "logprob"), {"text", "label"} or {"source",
    "target"}, with "steps", "rejected" and "extra" where the block names such columns. Dropped and
    counted: exact duplicates within a split; leaks, i.e. rows of train that stand in validation or
    test, and rows of validation that stand in test, whatever their case, spacing and label (pairs:
    whatever their target).

    Raises:
        ValueError: the data is missing, malformed or empty; the message names file, row and value.
    """
    intake = _Intake(block, report)
    taken = [split for split in SPLITS[1:] if split not in block.files]
    held: dict[str, set[bytes]] = {split: set() for split in SPLITS}
    with ExitStack() as stack:
        files = {
            s: stack.enter_context((out / f"{s}.jsonl").open("w", -1, "utf-8")) for s in SPLITS
        }
        for split in block.files:
            for raw, row in intake.rows(split, raw_rows(block, path, split)):
                text = normalised(row)
                place = raw.split or split
                if place == "train" and taken and not raw.split:
                    place = _split_of(raw.group or text, taken)
                if place != "train":
                    held[place].add(digest(text))
                line = json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False)
                files[place].write(line + "\n")
    leaks = drop(out / "validation.jsonl", held["test"])
    leaks += drop(out / "train.jsonl", held["validation"] | held["test"])
    counts = {split: describe(out / f"{split}.jsonl") for split in SPLITS}
    _require_rows(block, path, counts, leaks)
    dropped = {"duplicates": intake.duplicates, "leaks": leaks, "bad_rows": intake.bad}
    write_json(out / "report.json", {"splits": counts, **dropped})
    report.progress(1, 1, f"{intake.read:,} rows")
    figures = {
        **{s: counts[s]["rows"] for s in SPLITS},
        **dropped,
        "dropped": sum(dropped.values()),
    }
    return {name: float(value) for name, value in figures.items()}


def _require_rows(block: Dataset, path: Path, counts: Mapping[str, Any], leaks: int) -> None:
    """Insist on rows in every split.

    Raises:
        ValueError: a split has none; where whole files are too few, with that remedy too.
    """
    try:
        require_rows(path, counts, leaks)
    except ValueError as error:
        if not block.by_file(path):
            raise
        raise ValueError(
            f"{error}, or state group: document, which splits the documents of a file too "
            "(group: file keeps a file whole, and needs dozens of files)"
        ) from None


class _Intake:
    """Checks raw rows and turns them into kindling's; counts what it drops."""

    def __init__(self, block: Dataset, report: Reporter) -> None:
        self.block, self.report = block, report
        self.duplicates = self.bad = self.read = 0
        self._seen: set[bytes] = set()

    def rows(self, split: str, found: Iterable[Raw]) -> Iterator[tuple[Raw, dict[str, Any]]]:
        for raw in found:
            self.read += 1
            if self.read % REPORT_ROWS == 0:
                self.report.progress(0, 1, f"{self.read:,} rows")
            try:
                row = _row(self.block, split, raw.values)
            except ValueError as error:
                self._refuse(raw.place, error)
                continue
            key = digest("\0".join((raw.split or split, *map(str, row.values()))))
            if key in self._seen:
                self.duplicates += 1
                continue
            self._seen.add(key)
            yield raw, row

    def _refuse(self, place: str, error: ValueError) -> None:
        self.bad += 1
        if self.bad > self.block.max_bad_rows:
            raise ValueError(
                f"{place}: {error}; correct it, or let so many be skipped: "
                f"max_bad_rows is {self.block.max_bad_rows}"
            ) from None


def _row(block: Dataset, split: str, values: Mapping[str, Any] | ValueError) -> dict[str, Any]:
    if isinstance(values, ValueError):
        raise values
    wanted = block.wanted(split)
    if block.source and block.target:
        return _pair(block, block.source, block.target, values)
    text = _text(values, wanted[0])
    if not block.label:
        extra = {k: values[k] for k in ("kind", "logprob") if _of_world(block, values, k)}
        return {"text": text, **extra}
    raw = str(_value(values, block.label)).strip()
    if raw not in block.labels:
        raise ValueError(f"unknown label {raw[:SHOWN]!r}; labels has {', '.join(block.labels)}")
    return {"text": text, "label": block.labels[raw]}


def _pair(block: Dataset, source: str, target: str, values: Mapping[str, Any]) -> dict[str, Any]:
    row = {"source": _text(values, source), "target": _text(values, target)}
    if block.steps == target:
        steps, mark, answer = row["target"].rpartition(STEPS_END)
        if not mark or not steps.strip() or not answer.strip():
            shown = row["target"][-SHOWN:]
            raise ValueError(f"no steps, '{STEPS_END}' and answer in column '{target}': {shown!r}")
        row |= {"steps": steps.strip(), "target": answer.strip()}
    elif block.steps:
        row["steps"] = _text(values, block.steps)
    more: dict[str, Any] = {}
    if block.rejected:
        more["rejected"] = _text(values, block.rejected)
        if more["rejected"] == row["target"]:
            shown = row["target"][:SHOWN]
            raise ValueError(f"columns '{target}' and '{block.rejected}' both hold {shown!r}")
    if block.extra:
        more["extra"] = {name: _maybe_text(values, name) for name in block.extra}
    if _of_world(block, values, "alignment"):
        more["alignment"] = values["alignment"]
    return row | more


def _maybe_text(values: Mapping[str, Any], column: str) -> str:
    value = values.get(column, column)  # one that is not there at all is refused below
    return "" if value is None or not str(value).strip() else _text(values, column)


def _of_world(block: Dataset, values: Mapping[str, Any], key: str) -> bool:
    return block.format == "world" and key in values


def _value(values: Mapping[str, Any], column: str) -> Any:
    if values.get(column) is None:
        known = ", ".join(str(name) for name, value in values.items() if value is not None)
        raise ValueError(f"no value in column '{column}'; the row has {known or 'nothing'}")
    return values[column]


def _text(values: Mapping[str, Any], column: str) -> str:
    value = _value(values, column)
    if not isinstance(value, str):
        raise ValueError(f"column '{column}' holds {str(value)[:SHOWN]!r}, which is no text")
    if not value.strip():
        raise ValueError(f"column '{column}' is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = value[error.start : error.end]
        raise ValueError(f"column '{column}' has half a character: {half!r}") from None
    return value.strip()


def _split_of(group: str, taken: list[str]) -> str:
    """The split of a row, by a hash of its content, so that it stays when data is added."""
    place = int.from_bytes(digest(group)[:8], "big") / 2**64
    return next((s for n, s in enumerate(taken, 1) if place < n * HELD_OUT), "train")
