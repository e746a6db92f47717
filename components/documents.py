"""Files of plain text as documents of a length that models train and are judged on."""

import re
from collections.abc import Iterator
from pathlib import Path

LONGEST = 2000  # characters of a document: some 500 tokens, whole paragraphs
HEADER = re.compile(r"\A(?:#*\s*(?:Title|Author|Year|Language|Source|Translator)\s*:.*\s*|\s+)+")
RULE = re.compile(r"\A\s*-{3,}\s*$", re.MULTILINE)


def require_utf8(file: Path) -> None:
    """Refuse a file that is empty or not UTF-8, by line.

    Raises:
        ValueError: naming file, line and bytes.
    """
    if file.stat().st_size == 0:
        raise ValueError(f"{file}: the file is empty")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{file}:{number}: not UTF-8 (byte {line[error.start : error.start + 1]!r} at "
                    f"column {error.start + 1}); convert it, e.g. with 'iconv -t utf-8'"
                ) from None


def documents_of(file: Path, form: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The documents of a text or Markdown file: (where it stands, row).

    Paragraphs are joined up to 2,000 characters; a longer one stands alone. A header of `Title:`,
    `Author:` lines is dropped from Markdown.
    """
    require_utf8(file)
    with file.open(encoding="utf-8-sig") as lines:  # some editors write a byte order mark
        joined: list[str] = []
        length = 0
        for number, paragraph in _paragraphs(lines, skip_header=form == "markdown"):
            if joined and length + len(paragraph) > LONGEST:
                yield f"{file}:{number}", {"text": "\n\n".join(joined)}
                joined, length = [], 0
            joined.append(paragraph)
            length += len(paragraph)
        if joined:
            yield f"{file}:{number}", {"text": "\n\n".join(joined)}


def _paragraphs(lines: Iterator[str], skip_header: bool) -> Iterator[tuple[int, str]]:
    """Paragraphs with the line that they end on; lines are streamed."""
    block: list[str] = []
    heading = skip_header
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if heading and (not stripped or HEADER.match(stripped) or RULE.match(stripped)):
            continue
        heading = False
        if stripped:
            block.append(stripped)
        elif block:
            yield number, "\n".join(block)
            block = []
    if block:
        yield number, "\n".join(block)
