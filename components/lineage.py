"""Where a folder of results came from: content hashes, and the files that carry them.

`lineage.json` holds only what determines the content. Commit, time, machine and MLflow run are
tags in MLflow, found by the content hash, so that a comment in the code retrains nothing.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

LINEAGE = "lineage.json"


def write_json(path: Path, value: object, mode: int = 0o666) -> None:
    """Write `value` so that equal values give equal bytes; the file appears whole or not at all.

    mode: of the file from its first byte on, less the process's umask.
    """
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a process of that number that was killed here
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(os.open(temporary, flags, mode), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    os.replace(temporary, path)


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[Mapping]) -> int:
    """Write one JSON object a line, streamed; return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[dict]:
    """Read a file that `write_jsonl` wrote, one row at a time."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def text_hash(*parts: str) -> str:
    """SHA-256 of `parts`; their borders count, so ("a", "b") and ("ab",) differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def value_hash(value: object) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return text_hash(json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False))


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of all files below `folder`, `lineage.json` left out.

    Raises:
        ValueError: `folder` is missing or no folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; run `dvc repro` to make it")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != LINEAGE)
    return text_hash(*(f"{p.relative_to(folder).as_posix()}:{file_hash(p)}" for p in files))


def content_of(folder: Path) -> str:
    """The content hash that `folder`'s lineage states.

    Raises:
        ValueError: the folder has no lineage, so it was not made by a stage.
    """
    path = folder / LINEAGE
    if not path.is_file():
        raise ValueError(f"{folder} has no {LINEAGE}; run `dvc repro` to make it")
    return read_json(path)["content"]
