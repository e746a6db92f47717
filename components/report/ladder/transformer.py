"""The page of the Transformer: the same translations by attention alone, and a look inside."""

from pathlib import Path

import numpy as np

from components.ladder.climb import Climb
from components.lineage import read_json
from components.report.ladder import near
from components.report.ladder import translation_plots as plots
from components.report.ladder.measured import cost
from components.report.ladder.page import Page, Picture, Table
from components.report.ladder.translation import (
    FAMILIES,
    alignments,
    by_corpus,
    over_length,
    score_table,
    vectors,
)

ASKS = "bank"  # looks for what kind of bank it is
MAPS = 1  # heat maps of a model
PLAYS = 0.5  # of the time a head must look where a role would, to be said to play it


def page(climb: Climb) -> Page | None:
    """None where the ladder has no such rung."""
    corpora = by_corpus(climb, "transformer")
    if not corpora:
        return None
    names = climb.of("transformer")
    folders = {name: climb.measures(name)[0] for name in names}
    pictures = [_positions(folders[names[0]])]
    for name, folder in folders.items():
        pictures += [*_heads(name, folder), *alignments(climb, name, MAPS)]
    planes, sentences = vectors(climb, names[0])
    if not by_corpus(climb, "seq2seq"):  # whose page shows all models in these pictures
        pictures = [*(p for corpus in corpora for p in over_length(climb, corpus)), *pictures]
    return Page(
        title="The Transformer",
        what="Every word looks at every other in one step: a soft dictionary lookup, several at a "
        "time, in layers (Vaswani et al. 2017). The order of words is known by a code of their "
        "positions alone.",
        finding=" ".join(filter(None, (_roles(*each) for each in folders.items()))),
        pictures=[*pictures, *planes],
        tables=[
            score_table(climb, climb.of(*FAMILIES)),
            *_lookup(folders[names[0]]),
            *sentences,
            *near.table(climb.measured("transformer"), near.OF_TOKENS),
        ],
        cost=cost(climb, names),
        following="The encoder reads a sentence both ways at once. Trained on text alone, to fill "
        "gaps in it, it needs no translations: BERT.",
    )


def _positions(folder: Path) -> Picture:
    encoding = np.load(folder / "positions.npy", allow_pickle=False)
    return Picture(
        "position_encoding",
        plots.positions(encoding),
        "Each position has a code of sines and cosines, added to a word's embedding; a shift by k "
        "words is the same rotation of the code wherever it starts.",
    )


def _heads(name: str, folder: Path) -> list[Picture]:
    """None where no test sentence was short enough for the table of positions."""
    if not (folder / "heads.json").is_file():
        return []
    found = read_json(folder / "heads.json")
    relations, order = ", or the sentence's rarest token", ""
    if set(found["shares"]) - set(plots.ROLES):
        relations = ", the sentence's rarest token, or a word that it stands in a relation to"
        order = " These sentences have one order of words, so a relation is a distance too."
    picture = Picture(
        f"heads_{name}",
        plots.heads(name, found),
        f"How often the largest weight of each of the encoder's heads falls on the token before or "
        f"behind{relations} ({found['sentences']} test sentences).{order}",
    )
    return [picture]


def _roles(name: str, folder: Path) -> str:
    """Which heads play a role, in a sentence."""
    if not (folder / "heads.json").is_file():
        return ""
    found = read_json(folder / "heads.json")["shares"]
    played = [
        f"layer {layer} head {head} {role} ({share:.0%})"
        for role, layers in found.items()
        for layer, heads in enumerate(layers, 1)
        for head, share in enumerate(heads, 1)
        if share >= PLAYS
    ]
    return f"Heads of {name} that look one way most of the time: {', '.join(played) or 'none'}."


def _lookup(folder: Path) -> list[Table]:
    """Query, keys, weights and values of one word of "on the river bank"; none where these words
    are more than the table of positions has.
    """
    if not (folder / "lookup.json").is_file():
        return []
    found = read_json(folder / "lookup.json")
    rows = [
        [token, _vector(key), f"{score:.2f}", f"{weight:.3f}", _vector(value)]
        for token, key, score, weight, value in zip(
            *(found[part] for part in ("tokens", "keys", "scores", "weights", "values")),
            strict=True,
        )
    ]
    asks = found["tokens"][found["asks"]]
    rows.append([f"found for “{asks}”", "", "", "1", _vector(found["output"])])
    table = Table(
        ("token", "key", "query · key / √dim", "weight", "value"),
        rows,
        f"“on the river bank” as a soft dictionary lookup, in layer {found['layer']}, head "
        f"{found['head']}, the one in which “bank” looks most at “river”. {_pieces(asks)}The query "
        f"of “{asks}” is {_vector(found['query'])}; of each vector of {found['dim']} numbers the "
        "first are shown. The weights are the softmax of the scores, and what is found is the sum "
        "of weight × value.",
    )
    return [table]


def _pieces(asks: str) -> str:
    """Who asks, where the vocabulary has no whole word for it."""
    if asks == ASKS:
        return ""
    return f"This vocabulary cuts “{ASKS}” into parts, and “{asks}”, its last, is what asks. "


def _vector(numbers: list[float]) -> str:
    return f"({', '.join(f'{number:.2f}' for number in numbers)}, …)"
