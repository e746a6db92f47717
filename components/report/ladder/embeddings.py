"""The page of word2vec and GloVe: analogies, word similarity, neighbours and maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.ladder.climb import Climb
from components.lineage import read_json
from components.report import canvas
from components.report.ladder import embedding_plots as plots
from components.report.ladder import near
from components.report.ladder.measured import NONE, count, first, shown
from components.report.ladder.page import Page, Picture, Table
from components.report.ladder.seeds import over_seeds

FAMILIES = ("word2vec", "glove")

Rungs = Mapping[str, Sequence[Path]]


def page(climb: Climb) -> Page | None:
    """None where the ladder has no such rung."""
    measured = climb.measured(*FAMILIES)
    if not measured:
        return None
    metrics = {
        name: [read_json(f / "metrics.json") for f in found] for name, found in measured.items()
    }
    return Page(
        title="Word embeddings",
        what="A word is known by the company it keeps: word2vec (Mikolov et al. 2013) learns "
        "vectors that foretell the words around, GloVe (Pennington et al. 2014) vectors whose "
        "products tell how often words meet. What words have in common then shows as a direction.",
        finding=_finding(metrics),
        pictures=[*_judged(metrics), *_maps(measured)],
        tables=[
            _scores(measured, metrics),
            *near.table(measured, "The nearest words, the first seed's.", climb.of("one_hot")[:1]),
        ],
        cost=_cost(climb, climb.of(*FAMILIES)),
        following="A word has one vector here, whatever stands around it, and a word that was not "
        "in the text has none. What if words are cut into parts, so that none is unknown?",
    )


def figure_of(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A figure over seeds; None where a seed could not be asked."""
    told = over_seeds(found)
    return None if told["score"] is None else told


def _finding(metrics: Mapping[str, list[dict[str, Any]]]) -> str:
    scores = {
        name: figure_of([m["analogies"]["all"] for m in told]) for name, told in metrics.items()
    }
    known = {name: found for name, found in scores.items() if found}
    if not known:
        return "None of the questions has words that are all known."
    best, doubt = first(known, lower=False)
    told = metrics[best][0]
    return (
        f"{best} answers most of the analogies: {shown(known[best])} of the "
        f"{told['analogies']['all']['n']:,} questions whose words are all among its "
        f"{told['restricted_to']:,} most frequent ones.{doubt}"
    )


def _judged(metrics: Mapping[str, list[dict[str, Any]]]) -> list[Picture]:
    """Analogies by section, and word similarity where it was asked about."""
    first = next(iter(metrics.values()))[0]
    analogies = {
        name: {
            section: figure_of([m["analogies"]["sections"][section] for m in told])
            for section in first["analogies"]["sections"]
        }
        for name, told in metrics.items()
    }
    pictures = [
        Picture(
            "analogies",
            plots.points(analogies, "Analogies answered, by section", "share of known questions"),
            "The nearest word to b - a + c, its own three left out (3CosAdd). Sections that begin "
            "with gram ask for word forms. Intervals draw pairs, which many questions share.",
        )
    ]
    if first["wordsim"]:
        similar = {
            name: {key: figure_of([m["wordsim"][key] for m in told]) for key in first["wordsim"]}
            for name, told in metrics.items()
        }
        drawn = plots.points(similar, "Similarity, as people judge it", "Spearman's rho")
        pictures.append(Picture("wordsim", drawn, "Cosines against judgements of pairs of words."))
    return pictures


def _maps(measured: Rungs) -> list[Picture]:
    """The map of each rung's first training that has one."""
    maps = {name: read_json(folders[0] / "map.json") for name, folders in measured.items()}
    return [
        Picture(
            f"map_{name}",
            plots.plane(name, found),
            f"Two principal components, with {sum(found['variance']):.0%} of the variance of "
            "these words. Lines join pairs whose directions should be alike.",
        )
        for name, found in maps.items()
        if found["words"]
    ]


def _scores(measured: Rungs, metrics: Mapping[str, list[dict[str, Any]]]) -> Table:
    sets = list(next(iter(metrics.values()))[0]["wordsim"])
    rows = []
    for name, told in metrics.items():
        kinds = [
            [m["analogies"].get(kind) for m in told] for kind in ("semantic", "syntactic", "all")
        ]
        similar = [[m["wordsim"][key] for m in told] for key in sets]
        asked = told[0]["analogies"]["all"]
        unknown = asked["unknown"] / (asked["n"] + asked["unknown"])
        cells = [_cell(found) for found in (*kinds, *similar)]
        words = [count(measured[name], key) for key in ("words", "dimensions")]
        rows.append([name, *words, *cells, f"{unknown:.1%}"])
    head = ("rung", "words", "dimensions", "semantic", "syntactic", "all analogies", *sets)
    said = "Analogies: the share answered of those whose words are known; unknown: the others."
    return Table((*head, "unknown"), rows, said)


def _cell(found: Sequence[Mapping[str, Any] | None]) -> str:
    figure = figure_of(found) if None not in found else None
    return shown(figure) if figure else NONE


def _cost(climb: Climb, names: Sequence[str]) -> str:
    told = {name: read_json(climb.models(name)[0] / "training.json") for name in names}
    parts = []
    for name, found in told.items():
        seconds = climb.time(name)
        times = f"{name} {len(found['history'])} times"
        times += "" if seconds is None else f" in {seconds:.0f} s"
        parts.append(f"{times}, {canvas.short(found['parameters'])} parameters")
    read = next(iter(told.values()))["tokens"]
    return f"Text of {canvas.short(read)} words, gone through: {'; '.join(parts)}. One thread each."
