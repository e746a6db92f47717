"""What the pages of models that translate have in common, drawn from folders of measures."""

from collections.abc import Iterable
from typing import Any

from components.ladder.climb import Climb
from components.lineage import read_json
from components.report.ladder import translation_plots as plots
from components.report.ladder.page import Picture, Table
from components.report.ladder.seeds import over_seeds

FAMILIES = ("seq2seq", "transformer")
HEADLINE = "beam"


def by_corpus(climb: Climb, *families: str) -> dict[str, list[str]]:
    """The rungs of `families` by the data set that they translate."""
    found: dict[str, list[str]] = {}
    for name in climb.of(*families):
        found.setdefault(climb.rungs[name].corpus, []).append(name)
    return found


def metrics_of(climb: Climb, name: str) -> list[dict[str, Any]]:
    """The metrics of each training of a rung."""
    return [read_json(folder / "metrics.json") for folder in climb.measures(name)]


def score_table(climb: Climb, names: Iterable[str]) -> Table:
    """BLEU, chrF and alignment error of each rung, with intervals."""
    rows, signatures = [], {}
    for name in names:
        metrics = metrics_of(climb, name)
        signatures = {key: one["signature"] for key, one in metrics[0][HEADLINE].items()}
        aligned = [one["alignment"] for one in metrics if one["alignment"]]
        trained = read_json(climb.models(name)[0] / "training.json")
        rows.append(
            [
                name,
                climb.rungs[name].corpus,
                f"{trained['parameters']:,}",
                f"{trained['tokens']:,}",
                percent([one["greedy"]["bleu"] for one in metrics]),
                percent([one["beam"]["bleu"] for one in metrics]),
                percent([one["beam"]["chrf"] for one in metrics]),
                percent(aligned) if aligned else "",
            ]
        )
    head = (
        "model",
        "pairs",
        "parameters",
        "target tokens read",
        "BLEU, greedy",
        "BLEU, beam 4",
        "chrF, beam 4",
        "alignment error, %",
    )
    said = "; ".join(f"{metric}: {signature}" for metric, signature in signatures.items())
    return Table(head, rows, f"Of at most 1,000 test sentences, each source once. {said}")


def percent(found: list[dict[str, Any]]) -> str:
    """`28.4 [27.1, 29.8]`, of figures between 0 and 1, one a seed."""
    one = over_seeds(found)
    low, high = one["interval"]
    return f"{100 * one['score']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def over_length(climb: Climb, corpus: str) -> list[Picture]:
    """All models that translate `corpus`, in one picture; none where all sentences are as long."""
    lines = {name: length_line(climb, name) for name in by_corpus(climb, *FAMILIES)[corpus]}
    if all(len(points) < 2 for points in lines.values()):
        return []
    caption = "BLEU (beam 4) of test sentences by the number of words of their source."
    return [Picture(f"bleu_over_length_{corpus}", plots.bleu_over_length(corpus, lines), caption)]


def length_line(climb: Climb, name: str) -> list[dict[str, Any]]:
    """The points of `bleu_over_length`, over seeds."""
    seeds = [metrics["by_length"] for metrics in metrics_of(climb, name)]
    return [
        {"words": points[0]["words"], "length": points[0]["length"], **over_seeds(points)}
        for points in zip(*seeds, strict=True)
    ]


def alignments(climb: Climb, name: str, most: int) -> list[Picture]:
    """The first heat maps of a rung's first training; none without attention."""
    maps = read_json(climb.measures(name)[0] / "alignments.json")[:most]
    caption = (
        "How much each source word weighed as a target word was written (beam 4): the darker, "
    )
    caption += "the more."
    return [
        Picture(f"alignment_{name}_{number}", plots.alignment(name, found), caption)
        for number, found in enumerate(maps, 1)
    ]


def vectors(climb: Climb, name: str) -> tuple[list[Picture], list[Table]]:
    """Where sentences of the same words lie, and which they are; of the first training. None where
    the model takes sentences too short for them.
    """
    path = climb.measures(name)[0] / "projection.json"
    if not path.is_file():
        return [], []
    found = read_json(path)
    caption = (
        "Vectors of sentences of the same words on two principal components. The nearest other "
        f"sentence means the same in {found['same']:.0%} of the cases (by chance "
        f"{_chance(found):.0%})."
    )
    rows = [[str(n), s["text"], s["acts"]] for n, s in enumerate(found["sentences"], 1)]
    picture = Picture(f"vectors_{name}", plots.projection(name, found), caption)
    return [picture], [Table(("number", "sentence", "who acts"), rows)]


def _chance(found: dict[str, Any]) -> float:
    """The share of other sentences in which the same acts."""
    actors = [sentence["acts"] for sentence in found["sentences"]]
    same = [actors.count(actor) - 1 for actor in actors]
    return sum(same) / (len(actors) * (len(actors) - 1))


def longest_bucket(climb: Climb, name: str) -> dict[str, Any] | None:
    """The point of the longest sources; None where no length has enough of them."""
    return next(reversed(length_line(climb, name)), None)
