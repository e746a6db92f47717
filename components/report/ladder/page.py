"""What a page of the book is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """name: letters, digits and `_`, unique in the book: the file is called so."""

    name: str
    figure: "Figure"
    caption: str


@dataclass(frozen=True)
class Table:
    """head: of the columns; `rows` have as many cells, which are shown as they are."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Page:
    """One rung, or several that answer one question.

    what: what it is, in two sentences. finding: what the figures say. cost: of making it.
    following: why there is a next rung. blocks: HTML of the page's own, escaped by its author.
    """

    title: str
    what: str
    finding: str = ""
    pictures: Sequence[Picture] = field(default_factory=list)
    tables: Sequence[Table] = field(default_factory=list)
    blocks: "Sequence[Markup]" = field(default_factory=list)
    cost: str = ""
    following: str = ""
