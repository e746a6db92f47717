"""The book of a ladder: one HTML file, a page for each kind of rung, readable on a phone."""

import re
from collections.abc import Callable
from pathlib import Path

from components.ladder.block import JUDGED
from components.ladder.climb import Climb
from components.lineage import write_json
from components.report import canvas
from components.report.ladder import (
    bert,
    beyond,
    codes,
    embeddings,
    expected,
    gpt,
    neural,
    seq2seq,
    tokenizers,
    transformer,
)
from components.report.ladder.page import Page
from components.report.page import address, environment
from components.reporter import Reporter

TEMPLATE = "ladder/book.html"
LONG = 30  # letters of a cell
PAGES: tuple[Callable[[Climb], Page | None], ...] = (
    *(codes.page, embeddings.page, tokenizers.page),
    *(neural.page, seq2seq.page, transformer.page),
    *(bert.page, gpt.page, beyond.page, expected.page),
)


def write_book(climb: Climb, out: Path, report: Reporter) -> dict[str, float]:
    """Write `index.html`, self-contained, and its pictures as `pictures/NAME.png`, into `out`; of
    a ladder that expects something `expectations.json` too, see `expected.verdicts`.
    """
    import matplotlib

    with matplotlib.rc_context(canvas.STYLE):
        pages = []
        for done, draw in enumerate(PAGES):
            page = draw(climb)
            pages += [page] if page else []
            report.progress(done + 1, len(PAGES), page.title if page else "")
        pictures = [picture for page in pages for picture in page.pictures]
        addresses = {picture.name: address(picture.figure) for picture in pictures}
        (out / "pictures").mkdir()
        for picture in pictures:
            picture.figure.savefig(
                out / "pictures" / f"{picture.name}.png", metadata={"Software": None}
            )
    text = (
        environment()
        .get_template(TEMPLATE)
        .render(
            name=climb.name,
            seeds=climb.seeds,
            pages=pages,
            addresses=addresses,
            anchor=anchor,
            shape=shape,
        )
    )
    (out / "index.html").write_text(text, encoding="utf-8")
    figures = {"pages": float(len(pages)), "pictures": float(len(pictures))}
    return figures | _judged(climb, out)


def _judged(climb: Climb, out: Path) -> dict[str, float]:
    """How many expectations are held, not told apart, contradicted; nothing without any."""
    if not climb.expects:
        return {}
    found = expected.verdicts(climb)
    write_json(out / JUDGED, found)
    told = expected.counted(found).items()
    return {f"expectations_{verdict.replace(' ', '_')}": float(number) for verdict, number in told}


def anchor(title: str) -> str:
    """What a link to a page is called."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def shape(cell: str) -> str:
    """The class of a table's cell: `w` of figures, which no line breaks; `long` of many words."""
    if " [" in cell or cell.startswith("("):
        return "w"
    return "long" if len(cell) > LONG else ""
