"""Rows out of files, in any of the catalogue's formats, streamed through the `datasets` library."""

import csv
import glob
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.dataset import SHOWN, WITHOUT_COLUMNS, Dataset
from components.documents import documents_of, require_utf8

READ_BYTES = 1 << 20  # at once; more only takes more memory (measured: no faster)
LONGEST_CELL = 2**31 - 1  # characters, as a C long has everywhere; csv's own 131,072 are an article
SUFFIXES = {
    "text": (".txt",),
    "markdown": (".md", ".markdown"),
    "jsonl": (".jsonl",),
    "json": (".json",),
    "tsv": (".tsv",),
    "csv": (".csv",),
    "parquet": (".parquet",),
}


@dataclass(frozen=True)
class Raw:
    """A row as it was found. place: where it stands. split: where its source puts it. group: rows
    of one group fall in one split.
    """

    place: str
    values: Mapping[str, Any] | ValueError
    split: str | None = None
    group: str | None = None


def raw_rows(block: Dataset, path: Path, split: str) -> Iterator[Raw]:
    """The rows of the files of `split` at `path`, unchecked, one after the other.

    Raises:
        ValueError: a file is missing, or cannot be read in the block's format.
    """
    if block.format == "world":
        from components.world import documents, split_of

        for number, row in enumerate(documents(block.size, block.seed, block.kinds), 1):
            yield Raw(f"document {number} of the world", row, split=split_of(row))
        return
    if block.format == "parallel":
        yield from _parallel(block, path, split)
        return
    files = _files(block, path, split)
    if not block.by_file(path):
        for file in files:
            yield from _rows_of(block, file, split)
        return
    if not path.is_dir():
        raise ValueError(
            f"{path}: is one file, and group: file would put all of it into one split; "
            "state group: document, or name a folder of files"
        )
    for file in files:
        group = file.relative_to(path).as_posix()  # folders may hold files of one name
        for raw in _rows_of(block, file, split):
            yield replace(raw, group=group)


def _rows_of(block: Dataset, file: Path, split: str) -> Iterator[Raw]:
    """The rows of one file of `split`."""
    if block.format != "parquet":
        require_utf8(file)
    if block.format in WITHOUT_COLUMNS:
        for place, row in documents_of(file, block.format):
            yield Raw(place, row)
    elif block.format == "jsonl":
        yield from _objects(file)
    elif block.format in ("tsv", "csv"):
        yield from _cells(block, file, split)
    else:
        for number, row in enumerate(_load(block.format, file), 1):
            yield Raw(f"{file}: row {number}", row)


def _files(block: Dataset, path: Path, split: str) -> list[Path]:
    """The files that `split` is read from, in an order that does not depend on the machine."""
    _require_there(path)
    if block.splits:
        return [_file_of(split, path, block.splits[split])]
    if path.is_file():
        return [path]
    found = sorted(p for s in SUFFIXES[block.format] for p in path.rglob(f"*{s}") if p.is_file())
    if not found:
        suffixes = " or ".join(SUFFIXES[block.format])
        raise ValueError(f"{path}: the folder holds no {suffixes} file (format {block.format})")
    return found


def _require_there(path: Path) -> None:
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; put it there, or run 'dvc pull'")


def _file_of(split: str, path: Path, name: str) -> Path:
    if not path.is_dir():
        raise ValueError(f"{path}: is a file, but splits names files below a folder")
    file = path / name
    if not file.is_file():
        there = ", ".join(sorted(p.name for p in path.iterdir()))
        raise ValueError(f"{file}: is no file (split {split}); {path.name} holds {there}")
    return file


def _parallel(block: Dataset, path: Path, split: str) -> Iterator[Raw]:
    """The pairs of two files that are translations of each other, line by line."""
    _require_there(path)
    sides = (block.source, block.target)
    files = [_file_of(split, path, f"{block.splits[split]}.{side}") for side in sides]
    for file in files:
        require_utf8(file)
    for number, pair in enumerate(zip_longest(*map(_lines, files)), 1):
        if None in pair:  # and so every pair above may be one of strangers
            counts = [sum(1 for _ in _lines(file)) for file in files]
            alone = files[pair.index(None) - 1]  # the other of the two
            raise ValueError(
                f"{alone}:{number}: no line stands beside it: {files[0]} has {counts[0]:,} lines "
                f"and {files[1]} {counts[1]:,}: parallel files have as many; find the line that "
                "one of them lacks, or export both again"
            )
        yield Raw(f"{files[0]}:{number}", dict(zip(sides, pair, strict=True)))


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


def _objects(file: Path) -> Iterator[Raw]:
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
        yield Raw(f"{file}:{number}", values)


def _cells(block: Dataset, file: Path, split: str) -> Iterator[Raw]:
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
            yield Raw(place, ValueError(f"{error}: {shown!r}"))
        else:
            yield Raw(place, dict(zip(header, cells, strict=True)))


def _separated(form: str, file: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row that is not blank; a row of CSV may be several lines long."""
    if form == "tsv":
        for number, line in enumerate(_lines(file), 1):
            if line.strip():
                yield number, line.rstrip("\n").split("\t")
        return
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(_lines(file), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{file}:{reader.line_num}: not CSV: {error}; is a quote open?") from None
