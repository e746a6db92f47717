"""The page of n-gram, RNN and LSTM: what comes next, and how long they remember."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.ladder.climb import Climb
from components.lineage import read_json
from components.report import canvas
from components.report.ladder import language_plots, near
from components.report.ladder.measured import cost, count, figures, first, has, series, shown
from components.report.ladder.page import Page, Picture, Table

FAMILIES = ("ngram", "rnn", "lstm")
FAR = 16  # tokens


def page(climb: Climb) -> Page | None:
    """None where the ladder has no such rung."""
    measured = climb.measured(*FAMILIES)
    if not measured:
        return None
    perplexity = {name: figures(found, "perplexity_per_word") for name, found in measured.items()}
    return Page(
        title="Neural language models",
        what="A language model says how probable each next word is. The n-gram model sees a few "
        "words (Bengio et al. 2003); the RNN and the LSTM carry all that they have read in one "
        "state (Mikolov et al. 2010, Hochreiter & Schmidhuber 1997).",
        finding=f"{_least(climb, perplexity)} {_far(measured)}",
        pictures=[
            Picture(
                "language_perplexity",
                language_plots.scores(
                    perplexity, "Perplexity per word on the test text", "perplexity"
                ),
                f"Lower is better. {_budget(measured)}",
            ),
            Picture(
                "language_losses",
                language_plots.losses(climb.trained(*FAMILIES)),
                "All read the same text in the same order.",
            ),
            Picture(
                "language_gradient",
                language_plots.over_distance(
                    measured,
                    "gradient",
                    "How much is learned from a word that lies back",
                    "gradient norm, nearest = 1",
                ),
                "The norm of the gradient of one prediction's loss by the vector of a token, over "
                "its distance; both axes are logarithmic. A line ends where nothing is left.",
            ),
            Picture(
                "language_memory",
                language_plots.over_distance(
                    measured,
                    "memory",
                    "How much of a word that lies back is remembered",
                    "change of the prediction, nats",
                ),
                "A token is exchanged for another, and the divergence of the prediction measured.",
            ),
        ],
        tables=[table(climb, list(measured)), *near.table(measured, near.OF_TOKENS)],
        cost=cost(climb, climb.of(*FAMILIES)),
        following="A state of fixed size must hold a whole sentence before the first word of its "
        "translation is written. Can it?",
    )


def _texts(climb: Climb, names: Iterable[str]) -> dict[str, list[str]]:
    """The rungs that were measured on each data set's test text."""
    texts: dict[str, list[str]] = {}
    for name in names:
        texts.setdefault(climb.rungs[name].corpus, []).append(name)
    return texts


def _least(climb: Climb, perplexity: Mapping[str, Mapping[str, Any]]) -> str:
    """Which rung is least perplexed, on each text: figures of two compare no models."""
    texts, told = _texts(climb, perplexity), []
    for text, names in texts.items():
        best, doubt = first({name: perplexity[name] for name in names}, lower=True)
        where = f" on {text}" if len(texts) > 1 else ""
        least = shown(perplexity[best], "%.1f")
        told.append(f"The least perplexed{where} is {best}: {least} a word.{doubt}")
    return " ".join(told)


def _counts(measured: Mapping[str, Sequence[Path]], key: str) -> list[float]:
    """A number of things of each rung, such as parameters; its seeds have as many."""
    return [read_json(found[0] / "metrics.json")[key] for found in measured.values()]


def _budget(measured: Mapping[str, Sequence[Path]]) -> str:
    """Whether the rungs had as much of everything: an ordering means little where they had not."""
    parameters, tokens = (_between(_counts(measured, key)) for key in ("parameters", "tokens"))
    return f"Each model has {parameters} parameters and read {tokens} tokens."


def _between(values: Sequence[float]) -> str:
    """`216 k to 222 k`, or one number where all are alike."""
    least, most = canvas.short(min(values)), canvas.short(max(values))
    return least if least == most else f"{least} to {most}"


def _far(measured: Mapping[str, Sequence[Path]]) -> str:
    """What is left of each model's gradient far back, in words."""
    each = [read_json(found[0] / "reach.json")["distances"] for found in measured.values()]
    distances = min(each, key=len)  # of the shortest context; all begin alike
    place = max(n for n, distance in enumerate(distances) if distance <= FAR)
    left = []
    for name, found in measured.items():
        value = series(found, "reach.json", "gradient")[place]["score"]
        left.append(f"{name} {value:.2g}" if value else f"{name} nothing")
    told = ", ".join(left)
    return (
        f"Of the gradient by the nearest token, {distances[place]} tokens back is left: {told}. "
        "From what has no gradient a model cannot learn."
    )


def table(climb: Climb, names: list[str]) -> Table:
    """Perplexity and bits of the test split, for models of any vocabulary."""
    rows, several = [], len(_texts(climb, names)) > 1
    known = all(has(climb.measures(name), "ratio") for name in names)
    for name in names:
        found = climb.measures(name)
        ratio = [shown(figures(found, "ratio"))] if known else []
        rows.append(
            (
                name,
                *([climb.rungs[name].corpus] if several else []),
                climb.rungs[name].model.family,
                climb.rungs[name].vocabulary,
                count(found, "parameters"),
                count(found, "tokens"),
                shown(figures(found, "perplexity_per_word"), "%.1f"),
                shown(figures(found, "bits_per_byte")),
                *ratio,
                _unknown(found),
                shown(figures(found, "perplexity_named"), "%.1f"),
            )
        )
    text = ["text"] if several else []
    head = ("rung", *text, "family", "vocabulary", "parameters", "tokens read")
    same = "Figures compare within one text alone." if several else "On the same test text."
    ratio = ["nats, times the best possible"] if known else []
    truth = "The best possible model is the grammar that wrote the text. " if known else ""
    return Table(
        (
            *head,
            "perplexity per word",
            "bits per byte",
            *ratio,
            "unknown",
            "perplexity, unknown named only",
        ),
        rows,
        f"{same} {truth}Unknown: the share of test tokens that the vocabulary "
        "lacks. Such a word is named 'unknown' and then spelled, byte by byte, by a bigram of the "
        "unknown words of the training text, so that models of any vocabulary compare. Named only: "
        "without the spelling, as in published figures of a closed vocabulary; compare it for "
        "models of one vocabulary alone. Vocabularies of words do not pay for white space.",
    )


def _unknown(found: list) -> str:
    share = read_json(found[0] / "metrics.json")["unknown"]
    return "none" if not share else f"{share:.1%}"
