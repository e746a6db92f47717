"""What a ladder expects: judged beside its book, and a gate where the catalogue says `must`."""

from pathlib import Path

import pytest

from components.ladder.block import HELD, JUDGED, OPEN, Expectation
from components.ladder.climb import Climb
from components.lineage import read_json, write_json
from components.report.ladder.book import write_book
from components.reporter import Silent
from flows import expectations

SCORES = {"rnn": (3.0, 0.5), "lstm": (1.0, 0.5), "gpt": (1.2, 0.5)}  # and half an interval


def climbed(workspace: Path, *expects: Expectation) -> dict[str, float]:
    """The book of a ladder whose rungs were measured by `SCORES`."""
    for name, (score, half) in SCORES.items():
        folder = workspace / "artifacts" / "measures" / f"{name}-1"
        folder.mkdir(parents=True)
        figure = {"score": score, "interval": [score - half, score + half]}
        write_json(folder / "metrics.json", {"bits_per_byte": figure})
    out = workspace / "artifacts" / "ladder" / "report"
    out.mkdir(parents=True)
    return write_book(Climb("ladder", workspace / "artifacts", {}, 1, (), expects), out, Silent())


def expects(better: str, than: str, must: bool) -> Expectation:
    return Expectation(better=better, than=than, by="bits_per_byte", must=must)


def test_verdicts_stand_beside_the_book_and_are_counted(tmp_path: Path):
    figures = climbed(tmp_path, expects("lstm", "rnn", True), expects("gpt", "lstm", False))
    assert figures["expectations_held"] == figures["expectations_not_told_apart"] == 1
    assert figures["expectations_contradicted"] == 0
    page = (tmp_path / "artifacts" / "ladder" / "report" / "index.html").read_text("utf-8")
    assert '<td class="w">1.000 [0.500, 1.500]</td>' in page, "no line breaks in a figure"
    found = expectations.judged(tmp_path, "ladder")
    assert [one["verdict"] for one in found] == [HELD, OPEN]
    assert found == read_json(tmp_path / "artifacts" / "ladder" / "report" / JUDGED)
    said = "lstm better than rnn by bits_per_byte: held, 1 [0.5, 1.5] against 3 [2.5, 3.5]"
    assert expectations.sentence(found[0]) == said
    expectations.require(tmp_path, "ladder")  # what is not told apart binds nobody here


@pytest.mark.parametrize(
    ("better", "than", "verdict"),
    [("gpt", "lstm", "not told apart"), ("rnn", "lstm", "contradict")],
)
def test_a_gate_refuses_what_is_not_surely_so(tmp_path: Path, better, than, verdict):
    climbed(tmp_path, expects(better, than, True), expects("lstm", "rnn", True))
    with pytest.raises(expectations.NotHeld) as refused:
        expectations.require(tmp_path, "ladder")
    said = str(refused.value)
    assert f"{better} better than {than} by bits_per_byte: {verdict}" in said
    assert "artifacts/ladder/report/index.html" in said and said.count("better than") == 1


def test_a_ladder_that_expects_nothing_is_never_refused(tmp_path: Path):
    assert set(climbed(tmp_path)) == {"pages", "pictures"}
    assert expectations.judged(tmp_path, "ladder") == []
    expectations.require(tmp_path, "ladder")
