"""Data sets: read in any of the catalogue's formats, checked, deduplicated and split.

Rows are streamed through the `datasets` library. What grows with the data is a hash of each row,
kept to find duplicates: about 100 bytes of memory a row, whatever its length.
"""

import csv
import glob
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from components.block import Block
from components.documents import documents_of, require_utf8
from components.lineage import read_jsonl, write_json, write_jsonl
from components.reporter import Reporter

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.05  # of the rows, for validation and for test each
WHOLE_FILES = 50  # of so many files or more, a split takes whole ones: no book is in two splits
QUANTILES = ("0", "5", "50", "95", "100")  # per cent of the rows are at most so long
REPORT_ROWS = 20_000  # between two reports of progress
READ_BYTES = 1 << 20  # at once; more only takes more memory (measured: no faster)
SHOWN = 60  # characters of a bad value in an error
SUFFIXES = {
    "text": (".txt",),
    "markdown": (".md", ".markdown"),
    "jsonl": (".jsonl",),
    "json": (".json",),
    "tsv": (".tsv",),
    "csv": (".csv",),
    "parquet": (".parquet",),
}
WITHOUT_COLUMNS = ("text", "markdown")

Split = Literal["train", "validation", "test"]


class Dataset(Block):
    """Where data is and how to read it.

    splits: a file below `path` for each split; a split without one is taken from `train` by content
    hash. text, label: names of columns; `text` may differ by split: {train: a, test: b}. labels:
    what raw values mean. source, target: the columns of pairs. columns: the names, in order, of the
    columns of a split's file that has no header. kinds, size, seed: of the embedded `world`.
    max_bad_rows: so many may be skipped. on_change: what a run does when the data differs from its
    DVC pointer.
    """

    path: str
    format: Literal["text", "markdown", "jsonl", "json", "tsv", "csv", "parquet", "world"]
    splits: dict[Split, str] = Field(default_factory=dict)
    columns: dict[Split, list[str]] = Field(default_factory=dict)
    text: str | dict[Split, str] = "text"
    label: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    source: str | None = None
    target: str | None = None
    kinds: list[str] | None = Field(default=None, min_length=1)
    size: int | None = Field(default=None, ge=1)
    seed: int = 0
    max_bad_rows: int = Field(default=0, ge=0)
    on_change: Literal["refuse", "version"] = "refuse"

    @field_validator("labels", mode="before")
    @classmethod
    def _raw_values_are_text(cls, labels: Any) -> Any:
        """YAML reads `0: negative` with a number as key; files hold text."""
        if not isinstance(labels, dict):
            return labels
        return {str(raw): name for raw, name in labels.items()}

    @model_validator(mode="after")
    def _belongs_to_format(self) -> "Dataset":
        stated = self.model_fields_set
        if (self.format == "world") != (self.size is not None):
            raise ValueError(f"size: {self.size}: size belongs to format: world, which needs it")
        for key in ("kinds", "seed"):
            if key in stated and self.format != "world":
                raise ValueError(f"{key} belongs to format: world, not to {self.format}")
        if self.splits and self.format == "world":
            raise ValueError("splits: the world is no file and knows its own splits; drop the key")
        if self.columns and self.format not in ("tsv", "csv"):
            raise ValueError(f"columns belongs to tsv and csv, not to {self.format}")
        for key in ("text", "label", "source"):
            if key in stated and getattr(self, key) and self.format in WITHOUT_COLUMNS:
                raise ValueError(f"{key} names a column, and {self.format} has none; drop the key")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "Dataset":
        if bool(self.label) != bool(self.labels):
            raise ValueError(
                f"label {self.label!r} with labels {self.labels}: label: COLUMN and "
                "labels: {RAW: NAME} belong together"
            )
        if self.labels and len(set(self.labels.values())) < 2:
            raise ValueError(f"labels {self.labels}: two names or more, or nothing is told apart")
        if bool(self.source) != bool(self.target):
            raise ValueError(f"source {self.source!r}, target {self.target!r}: a pair needs both")
        if self.source and (self.label or "text" in self.model_fields_set):
            raise ValueError(f"source {self.source!r}: pairs have no text and no label")
        if self.splits and "train" not in self.splits:
            raise ValueError(f"splits has no train, only {', '.join(self.splits)}")
        return self

    @model_validator(mode="after")
    def _names_columns_of_each_file(self) -> "Dataset":
        if isinstance(self.text, dict) and set(self.text) != set(self.files):
            raise ValueError(
                f"text names a column for {', '.join(self.text)}; "
                f"there are files for {', '.join(self.files)}"
            )
        for split, names in self.columns.items():
            if split not in self.files:
                raise ValueError(f"columns of {split}, a split without a file of its own")
            missing = [name for name in self.wanted(split) if name not in names]
            if missing or len(set(names)) != len(names):
                raise ValueError(
                    f"columns of {split} are {names}: each name once, "
                    f"{' and '.join(self.wanted(split))} among them"
                )
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """The splits that have a file of their own."""
        return tuple(self.splits) or ("train",)

    def wanted(self, split: str) -> tuple[str, ...]:
        """The columns that are read in the file of `split`."""
        if self.source and self.target:
            return (self.source, self.target)
        text = self.text if isinstance(self.text, str) else self.text[split]
        return (text, self.label) if self.label else (text,)


@dataclass(frozen=True)
class _Raw:
    """A row as it was found. place: where it stands. split: where its source puts it. group: rows
    of one group fall in one split.
    """

    place: str
    values: Mapping[str, Any] | ValueError
    split: str | None = None
    group: str | None = None


def ingest(block: Dataset, path: Path, out: Path, report: Reporter) -> dict[str, float]:
    """Read the data at `path` into `out`: `SPLIT.jsonl` and `report.json`.

    Rows are {"text"} (of the world also "kind", "logprob"), {"text", "label"} or {"source",
    "target"}. Dropped and counted: exact duplicates within a split; leaks, i.e. rows of train that
    stand in validation or test, and rows of validation that stand in test, whatever their case,
    spacing and label (pairs: whatever their target).

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
            for raw, row in intake.rows(split, _raw_rows(block, path, split)):
                text = _normalised(row)
                place = raw.split or split
                if place == "train" and taken and not raw.split:
                    place = _split_of(raw.group or text, taken)
                if place != "train":
                    held[place].add(_digest(text))
                line = json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False)
                files[place].write(line + "\n")
    leaks = _drop(out / "validation.jsonl", held["test"])
    leaks += _drop(out / "train.jsonl", held["validation"] | held["test"])
    counts = {split: _describe(out / f"{split}.jsonl") for split in SPLITS}
    _require_rows(path, counts, leaks)
    dropped = {"duplicates": intake.duplicates, "leaks": leaks, "bad_rows": intake.bad}
    write_json(out / "report.json", {"splits": counts, **dropped})
    report.progress(1, 1, f"{intake.read:,} rows")
    figures = {
        **{s: counts[s]["rows"] for s in SPLITS},
        **dropped,
        "dropped": sum(dropped.values()),
    }
    return {name: float(value) for name, value in figures.items()}


class _Intake:
    """Checks raw rows and turns them into kindling's; counts what it drops."""

    def __init__(self, block: Dataset, report: Reporter) -> None:
        self.block, self.report = block, report
        self.duplicates = self.bad = self.read = 0
        self._seen: set[bytes] = set()

    def rows(self, split: str, found: Iterable[_Raw]) -> Iterator[tuple[_Raw, dict[str, Any]]]:
        for raw in found:
            self.read += 1
            if self.read % REPORT_ROWS == 0:
                self.report.progress(0, 1, f"{self.read:,} rows")
            try:
                row = _row(self.block, split, raw.values)
            except ValueError as error:
                self._refuse(raw.place, error)
                continue
            key = _digest("\0".join((raw.split or split, *map(str, row.values()))))
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
    if block.source:
        pair = zip(("source", "target"), wanted, strict=True)
        extra = {"alignment": values["alignment"]} if _of_world(block, values, "alignment") else {}
        return {**{key: _text(values, column) for key, column in pair}, **extra}
    text = _text(values, wanted[0])
    if not block.label:
        extra = {k: values[k] for k in ("kind", "logprob") if _of_world(block, values, k)}
        return {"text": text, **extra}
    raw = str(_value(values, block.label)).strip()
    if raw not in block.labels:
        raise ValueError(f"unknown label {raw[:SHOWN]!r}; labels has {', '.join(block.labels)}")
    return {"text": text, "label": block.labels[raw]}


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


def _raw_rows(block: Dataset, path: Path, split: str) -> Iterator[_Raw]:
    if block.format == "world":
        from components.world import documents, split_of

        for number, row in enumerate(documents(block.size, block.seed, block.kinds), 1):
            yield _Raw(f"document {number} of the world", row, split=split_of(row))
        return
    files = _files(block, path, split)
    whole = len(files) >= WHOLE_FILES
    for file in files:
        require_utf8(file) if block.format != "parquet" else None
        if block.format in WITHOUT_COLUMNS:
            group = file.name if whole else None
            for place, row in documents_of(file, block.format, group=None):
                yield _Raw(place, row, group=group)
        elif block.format == "jsonl":
            yield from _objects(file)
        elif block.format in ("tsv", "csv"):
            yield from _cells(block, file, split)
        else:
            for number, row in enumerate(_load(block.format, file), 1):
                yield _Raw(f"{file}: row {number}", row)


def _files(block: Dataset, path: Path, split: str) -> list[Path]:
    """The files that `split` is read from, in an order that does not depend on the machine."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; run 'dvc pull {path.name}.dvc'")
    if block.splits:
        if not path.is_dir():
            raise ValueError(f"{path}: is a file, but splits names files below a folder")
        file = path / block.splits[split]
        if not file.is_file():
            there = ", ".join(sorted(p.name for p in path.iterdir()))
            raise ValueError(f"{file}: is no file (split {split}); {path.name} holds {there}")
        return [file]
    if path.is_file():
        return [path]
    found = sorted(p for s in SUFFIXES[block.format] for p in path.rglob(f"*{s}") if p.is_file())
    if not found:
        suffixes = " or ".join(SUFFIXES[block.format])
        raise ValueError(f"{path}: the folder holds no {suffixes} file (format {block.format})")
    return found


def _load(loader: str, file: Path, **options: Any) -> Iterator[dict[str, Any]]:
    """The rows of `file`, streamed through a loader of the `datasets` library."""
    import datasets

    datasets.disable_progress_bars()
    name = glob.escape(str(file.absolute()))  # the library takes names for patterns
    with TemporaryDirectory() as cache:
        options = {"split": "train", "streaming": True, "cache_dir": cache, **options}
        try:
            yield from datasets.load_dataset(loader, data_files=name, **options)
        except Exception as error:  # each loader has exceptions of its own
            reason = error.__cause__ or error
            raise ValueError(f"{file}: not readable as {loader}: {reason}") from error


def _lines(file: Path) -> Iterator[str]:
    """The lines of `file` with their ends, the byte order mark of some editors dropped."""
    for number, row in enumerate(_load("text", file, keep_linebreaks=True, chunksize=READ_BYTES)):
        yield row["text"] if number else row["text"].removeprefix("\ufeff")


def _objects(file: Path) -> Iterator[_Raw]:
    """The rows of a JSON Lines file; read as lines, so that an error can name one."""
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                values = ValueError(f"{line.strip()[:SHOWN]!r} is no JSON object")
        except json.JSONDecodeError as error:
            values = ValueError(f"{line.strip()[:SHOWN]!r} is no JSON: {error.msg}")
        yield _Raw(f"{file}:{number}", values)


def _cells(block: Dataset, file: Path, split: str) -> Iterator[_Raw]:
    """The rows of a file with columns. In TSV quotes are letters: real files have unpaired ones."""
    header = block.columns.get(split)
    for number, cells in _separated(block.format, file):
        place = f"{file}:{number}"
        if header is None:
            header = [name.strip() for name in cells]
            missing = [name for name in block.wanted(split) if name not in header]
            if missing:
                raise ValueError(
                    f"{place}: no column '{missing[0]}' in the header, only {', '.join(header)}; "
                    f"name one of them, or state columns: {{{split}: [...]}} if this is no header"
                )
        elif len(cells) != len(header):
            shown = " ".join(cells)[:SHOWN]
            error = f"{len(cells)} cells for the {len(header)} columns {', '.join(header)}"
            yield _Raw(place, ValueError(f"{error}: {shown!r}"))
        else:
            yield _Raw(place, dict(zip(header, cells, strict=True)))


def _separated(form: str, file: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row that is not blank; a row of CSV may be several lines long."""
    if form == "tsv":
        for number, line in enumerate(_lines(file), 1):
            if line.strip():
                yield number, line.rstrip("\n").split("\t")
        return
    reader = csv.reader(_lines(file), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{file}:{reader.line_num}: not CSV: {error}; is a quote open?") from None


def _normalised(row: Mapping[str, Any]) -> str:
    """What makes two rows the same to a reader: the text whatever its case and spacing."""
    return " ".join((row.get("text") or row["source"]).casefold().split())


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _split_of(group: str, taken: list[str]) -> str:
    """The split of a row, by a hash of its content, so that it stays when data is added."""
    place = int.from_bytes(_digest(group)[:8], "big") / 2**64
    return next((s for n, s in enumerate(taken, 1) if place < n * HELD_OUT), "train")


def _drop(file: Path, held: set[bytes]) -> int:
    """Drop the rows of `file` whose text is in `held`; return how many."""
    total = 0

    def kept() -> Iterator[dict]:
        nonlocal total
        for row in read_jsonl(file):
            total += 1
            if _digest(_normalised(row)) not in held:
                yield row

    cleaned = file.with_name(f".{file.name}")
    written = write_jsonl(cleaned, kept())
    cleaned.replace(file)
    return total - written


def _require_rows(path: Path, counts: Mapping[str, Mapping[str, Any]], leaks: int) -> None:
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


def _describe(file: Path) -> dict[str, Any]:
    """Counts of a split: rows, labels or kinds, and quantiles of the length."""
    characters: Counter[int] = Counter()
    words: Counter[int] = Counter()
    groups: Counter[str] = Counter()
    for row in read_jsonl(file):
        text = _document(row)
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


def _document(row: Mapping[str, Any]) -> str:
    return row["text"] if "text" in row else f"{row['source']}\n{row['target']}"


def build_corpus(dataset: Path, out: Path, report: Reporter) -> dict[str, float]:
    """The documents of a data set, for language models: its texts, whatever their labels.

    A pair is the source, a line break, and the target. A document of train that stands in
    validation or test, whatever its case and spacing, is dropped and counted.

    Raises:
        ValueError: `dataset` lacks a split.
    """
    counts, held, dropped = {}, set(), 0
    for done, split in enumerate(reversed(SPLITS)):
        source, file = dataset / f"{split}.jsonl", out / f"{split}.jsonl"
        if not source.is_file():
            raise ValueError(f"{source}: no such file; run 'dvc repro dataset@{dataset.name}'")
        extra = ("kind", "logprob")
        rows = (
            {"text": _document(r), **{k: r[k] for k in extra if k in r}} for r in read_jsonl(source)
        )
        write_jsonl(file, rows)
        dropped += _drop(file, held) if split != "test" else 0
        if split != "train":
            held |= {_digest(_normalised(row)) for row in read_jsonl(file)}
        counts[split] = _describe(file)
        report.progress(done + 1, len(SPLITS), split)
    _require_rows(dataset, counts, dropped)
    write_json(out / "report.json", {"splits": counts, "leaks": dropped})
    totals = {key: sum(counts[s][key] for s in SPLITS) for key in ("characters", "words")}
    figures = {**{s: counts[s]["rows"] for s in SPLITS}, **totals, "dropped": dropped}
    return {name: float(value) for name, value in figures.items()}
