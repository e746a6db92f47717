"""What a ladder expects, once it was climbed: told, and binding where the catalogue says `must`."""

from pathlib import Path
from typing import Any

from components.ladder.block import HELD, JUDGED
from components.lineage import read_json


class NotHeld(RuntimeError):
    """An expectation that must be held is not, by what was measured."""


def judged(workspace: Path, ladder: str) -> list[dict[str, Any]]:
    """The verdicts that stand beside the book of `ladder`; none where it expects nothing."""
    path = workspace / "artifacts" / ladder / "report" / JUDGED
    return read_json(path) if path.is_file() else []


def require(workspace: Path, ladder: str) -> None:
    """Refuse what was measured where a gate among the expectations is not held.

    Raises:
        NotHeld: the message names each such expectation with its figures.
    """
    failed = [one for one in judged(workspace, ladder) if one["must"] and one["verdict"] != HELD]
    if failed:
        told = "\n".join(f"  {sentence(one)}" for one in failed)
        book = f"artifacts/{ladder}/report/index.html"
        raise NotHeld(f"ladder {ladder} expects what was not found; see {book}\n{told}")


def sentence(one: dict[str, Any]) -> str:
    """`lstm better than rnn by bits_per_byte: held, 1.9 [1.8, 2] against 2.4 [2.3, 2.5]`."""
    figures = " against ".join(_figure(one[side]) for side in ("one", "other"))
    return f"{one['better']} better than {one['than']} by {one['by']}: {one['verdict']}, {figures}"


def _figure(found: dict[str, Any]) -> str:
    if found["score"] is None:
        return "nothing that could be measured"
    low, high = found["interval"]
    return f"{found['score']:.4g} [{low:.4g}, {high:.4g}]"
