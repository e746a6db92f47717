"""Data sets: read in any of the catalogue's formats, checked, deduplicated and split.

Rows are streamed. What grows with the data is 16 bytes of hash a row, kept to find duplicates.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
SUFFIXES = {
    "text": (".txt",),
    "markdown": (".md", ".markdown"),
    "jsonl": (".jsonl",),
    "json": (".json",),
    "tsv": (".tsv",),
    "csv": (".csv",),
    "parquet": (".parquet",),
}
LOADERS = {"jsonl": "json", "json": "json", "tsv": "csv", "csv": "csv", "parquet": "parquet"}

Split = Literal["train", "validation", "test"]


class Dataset(Block):
    """Where data is and how to read it.

    splits: a file below `path` for each split; one without is taken from `train` by content hash.
    text, label: names of columns; text may name one for each split. labels: what raw values mean.
    columns: the names, in order, of the columns of a split's file that has no header. kinds, size,
    seed: of the embedded `world`. max_bad_rows: so many may be skipped. on_change: what a run does
    when the data differs from its DVC pointer.
    """

    path: str
    format: Literal["text", "markdown", "jsonl", "json", "tsv", "csv", "parquet", "world"]
    splits: dict[Split, str] = Field(default_factory=dict)
    columns: dict[Split, list[str]] = Field(default_factory=dict)
    text: str | dict[Split, str] = "text"
    label: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    kinds: list[str] | None = None
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

    def text_column(self, split: str) -> str:
        if isinstance(self.text, str):
            return self.text
        return self.text.get(split, "text")

    @model_validator(mode="after")
    def _fits_together(self) -> "Dataset":
        if bool(self.label) != bool(self.labels):
            raise ValueError("label: COLUMN and labels: {RAW: NAME} belong together")
        if (self.format == "world") != (self.size is not None):
            raise ValueError("size: N belongs to format: world, which needs it")
        if self.kinds and self.format != "world":
            raise ValueError(f"kinds belongs to format: world, not to {self.format}")
        if self.columns and self.format not in ("tsv", "csv"):
            raise ValueError(f"columns belongs to tsv and csv, not to {self.format}")
        if self.splits and "train" not in self.splits:
            raise ValueError("splits has no train")
        return self


def ingest(block: Dataset, path: Path, out: Path, report: Reporter) -> dict[str, float]:
    """Read the data at `path` into `out`: `SPLIT.jsonl` and `report.json`.

    Exact duplicates are dropped, and training rows whose text stands in validation or test.

    Raises:
        ValueError: the data is missing, malformed or empty; the message names file, row and value.
    """
    intake = _Intake(block, report)
    rows = {split: intake.rows(split, _raw_rows(block, path, split)) for split in _given(block)}
    files = {split: (out / f"{split}.jsonl").open("w+", encoding="utf-8") for split in SPLITS}
    for file in files.values():
        file.close()
    held_out: set[bytes] = set()
    order = [split for split in ("test", "validation", "train") if split in rows]
    for split in order:
        _write_split(block, split, rows[split], out, set(_given(block)), held_out)
    intake.leaks = _drop_leaks(out, held_out)
    counts = {split: _describe(out / f"{split}.jsonl") for split in SPLITS}
    if empty := [split for split in SPLITS if not counts[split]["rows"]]:
        told = ", ".join(f"{split} {counts[split]['rows']}" for split in SPLITS)
        raise ValueError(f"{path}: no rows are left for {' and '.join(empty)} ({told}); add data")
    dropped = {"duplicates": intake.duplicates, "leaks": intake.leaks, "bad_rows": intake.bad}
    write_json(out / "report.json", {"splits": counts, **dropped})
    figures = {split: float(counts[split]["rows"]) for split in SPLITS}
    return {**figures, **{key: float(value) for key, value in dropped.items()}}


def _given(block: Dataset) -> tuple[str, ...]:
    """The splits that have a file of their own; the world knows its splits itself."""
    return tuple(block.splits) or ("train",)


class _Intake:
    """Checks raw rows and turns them into kindling's; counts what it drops."""

    def __init__(self, block: Dataset, report: Reporter) -> None:
        self.block, self.report = block, report
        self.duplicates = self.bad = self.leaks = self.read = 0
        self._seen: set[bytes] = set()

    def rows(self, split: str, raw: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[dict]:
        """raw: (where it stands, the row)."""
        for place, row in raw:
            self.read += 1
            if self.read % REPORT_ROWS == 0:
                self.report.progress(0, 1, f"{self.read:,} rows")
            try:
                made = _row(self.block, split, row)
            except ValueError as error:
                self._refuse(place, error)
                continue
            key = _digest("\0".join([split, made["text"], made.get("label", "")]))
            if key in self._seen:
                self.duplicates += 1
                continue
            self._seen.add(key)
            yield made

    def _refuse(self, place: str, error: ValueError) -> None:
        self.bad += 1
        if self.bad > self.block.max_bad_rows:
            raise ValueError(
                f"{place}: {error} ({self.bad} bad rows; max_bad_rows allows "
                f"{self.block.max_bad_rows})"
            ) from None


def _row(block: Dataset, split: str, row: Mapping[str, Any]) -> dict[str, Any]:
    column = block.text_column(split)
    wanted = [column, *([block.label] if block.label else [])]
    for name in wanted:
        if row.get(name) is None:
            known = ", ".join(map(str, row))
            raise ValueError(f"no value in column '{name}'; the row has {known or 'no columns'}")
    text = str(row[column]).strip()
    if not text:
        raise ValueError(f"column '{column}' is empty")
    if not block.label:
        kept = {key: row[key] for key in ("kind", "logprob", "split", "group") if key in row}
        return {"text": text, **kept}
    raw = str(row[block.label]).strip()
    if raw not in block.labels:
        raise ValueError(f"unknown label {raw!r}; labels knows {', '.join(block.labels)}")
    kept = {"split": row["split"]} if "split" in row else {}
    return {"text": text, "label": block.labels[raw], **kept}


def _raw_rows(block: Dataset, path: Path, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if block.format == "world":
        from components.world import documents, split_of

        for number, row in enumerate(documents(block.size, block.seed, block.kinds), 1):
            yield f"world row {number}", {**row, "split": split_of(row)}
        return
    files = _files(block, path, split)
    for file in files:
        if block.format in ("text", "markdown"):
            whole = len(files) >= WHOLE_FILES
            yield from documents_of(file, block.format, group=file.name if whole else None)
        else:
            yield from _loaded(block, file, split)


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
    found = sorted(p for s in SUFFIXES[block.format] for p in path.rglob(f"*{s}"))
    if not found:
        suffixes = " or ".join(SUFFIXES[block.format])
        raise ValueError(f"{path}: the folder holds no {suffixes} file (format {block.format})")
    return found


def _loaded(block: Dataset, file: Path, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a file with columns, streamed through the `datasets` library."""
    import datasets

    options: dict[str, Any] = {}
    names = block.columns.get(split)
    if block.format != "parquet":
        require_utf8(file)
    if LOADERS[block.format] == "csv":
        options = _table_options(block, file, names)
    first = 1 if names or LOADERS[block.format] != "csv" else 2
    datasets.disable_progress_bars()
    with TemporaryDirectory() as cache:
        try:
            rows = datasets.load_dataset(
                LOADERS[block.format],
                data_files=str(file),
                split="train",
                streaming=True,
                cache_dir=cache,
                **options,
            )
            for number, row in enumerate(rows, first):
                yield f"{file}:{number}", row
        except Exception as error:  # each loader has exceptions of its own
            reason = error.__cause__ or error
            raise ValueError(f"{file}: not readable as {block.format}: {reason}") from error


def _table_options(block: Dataset, file: Path, names: list[str] | None) -> dict[str, Any]:
    """Read every column as text: `007` stays `007`, and `NA` is a word."""
    from datasets import Features, Value

    # quotes are letters in tsv, and real files have them unpaired
    form = {"sep": "\t", "quoting": csv.QUOTE_NONE} if block.format == "tsv" else {"sep": ","}
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines, delimiter=form["sep"], quoting=form.get("quoting", 0))
        columns = names or next(rows)
    return {
        **form,
        "features": Features({column: Value("string") for column in columns}),
        "keep_default_na": False,
        "encoding": "utf-8",
        **({"names": names, "header": None} if names else {}),
    }


def _write_split(
    block: Dataset,
    split: str,
    rows: Iterable[dict],
    out: Path,
    given: set[str],
    held_out: set[bytes],
) -> None:
    """Append each row to the file of its split; note the texts that training must not see."""
    missing = [name for name in ("validation", "test") if name not in given]
    files = {name: (out / f"{name}.jsonl").open("a", encoding="utf-8") for name in SPLITS}
    try:
        for row in rows:
            own = row.pop("split", None)
            group = row.pop("group", row["text"])
            place = own or (_split_of(group, missing) if split == "train" else split)
            digest = _text_digest(row["text"])
            if place == "validation" and split == "validation" and digest in held_out:
                continue  # it stands in the test file
            if place != "train":
                held_out.add(digest)
            write_row(files[place], row)
    finally:
        for file in files.values():
            file.close()


def write_row(file, row: Mapping[str, Any]) -> None:
    import json

    file.write(json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def _split_of(group: str, missing: list[str]) -> str:
    """The split of a row, by a hash of its content, so that it stays when data is added."""
    place = int.from_bytes(_digest(group)[:8], "big") / 2**64
    for number, name in enumerate(missing, 1):
        if place < number * HELD_OUT:
            return name
    return "train"


def _drop_leaks(out: Path, held_out: set[bytes]) -> int:
    """Drop training rows whose text stands in another split; return how many."""
    source, cleaned = out / "train.jsonl", out / ".train.cleaned"
    total = 0

    def kept() -> Iterator[dict]:
        nonlocal total
        for row in read_jsonl(source):
            total += 1
            if _text_digest(row["text"]) not in held_out:
                yield row

    written = write_jsonl(cleaned, kept())
    cleaned.replace(source)
    return total - written


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _text_digest(text: str) -> bytes:
    """The hash of a text whatever its case and spacing."""
    return _digest(" ".join(text.casefold().split()))


def _describe(file: Path) -> dict[str, Any]:
    """Counts of a split: rows, labels or kinds, and quantiles of the length in characters."""
    import numpy as np

    lengths, words = [], 0
    groups: Counter[str] = Counter()
    for row in read_jsonl(file):
        lengths.append(len(row["text"]))
        words += len(row["text"].split())
        groups[row.get("label") or row.get("kind") or "text"] += 1
    if not lengths:
        return {"rows": 0}
    quantiles = (
        np.quantile(np.array(lengths), [float(q) / 100 for q in QUANTILES]).round().astype(int)
    )
    return {
        "rows": len(lengths),
        "words": words,
        "characters": sum(lengths),
        "groups": dict(sorted(groups.items())),
        "length_quantiles": dict(zip(QUANTILES, quantiles.tolist(), strict=True)),
    }


def build_corpus(dataset: Path, out: Path, report: Reporter) -> dict[str, float]:
    """The documents of a data set, for language models: its texts, whatever their labels."""
    counts = {}
    for done, split in enumerate(SPLITS):
        kept = ("text", "kind", "logprob")
        rows = read_jsonl(dataset / f"{split}.jsonl")
        write_jsonl(out / f"{split}.jsonl", ({k: row[k] for k in kept if k in row} for row in rows))
        counts[split] = _describe(out / f"{split}.jsonl")
        report.progress(done + 1, len(SPLITS), split)
    write_json(out / "report.json", {"splits": counts})
    rows = {split: float(counts[split]["rows"]) for split in SPLITS}
    return {**rows, "words": float(counts["train"]["words"])}
