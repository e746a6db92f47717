"""The page of encoder and decoder: one vector for a sentence, and then attention."""

from components.ladder.climb import Climb
from components.report.ladder import near
from components.report.ladder.measured import cost
from components.report.ladder.page import Page, Picture, Table
from components.report.ladder.translation import (
    alignments,
    by_corpus,
    length_line,
    longest_bucket,
    over_length,
    percent,
    score_table,
    vectors,
)

MAPS = 2  # heat maps of a model


def page(climb: Climb) -> Page | None:
    """None where the ladder has no such rung."""
    corpora = by_corpus(climb, "seq2seq")
    if not corpora:
        return None
    names = climb.of("seq2seq")
    pictures: list[Picture] = [p for corpus in corpora for p in over_length(climb, corpus)]
    tables: list[Table] = [score_table(climb, names)]
    for rungs in corpora.values():
        attending = [name for name in rungs if _attention(climb, name) != "none"]
        pictures += [p for name in attending[:1] for p in alignments(climb, name, MAPS)]
    first = names[0]
    planes, sentences = vectors(climb, first)
    return Page(
        title="Sequence to sequence, and attention",
        what="An encoder LSTM reads a sentence and a decoder LSTM writes its translation, from "
        "one vector alone (Sutskever et al. 2014). With attention, the decoder looks back at all "
        "states of the encoder for each word that it writes (Bahdanau et al. 2015, Luong et al. "
        "2015). Both scores stand in Luong's wiring here, behind the decoder's state; in "
        "Bahdanau's own, what attention finds is an input of that state.",
        finding=" ".join(filter(None, (_finding(climb, *each) for each in corpora.items()))),
        pictures=[*pictures, *planes],
        tables=[*tables, *sentences, *near.table(climb.measured("seq2seq"), near.OF_TOKENS)],
        cost=cost(climb, names),
        following="An LSTM must read one word after the other, and what it read long ago has "
        "passed through every state since. If attention finds what matters anyway, is it all "
        "you need?",
    )


def _attention(climb: Climb, name: str) -> str:
    return climb.rungs[name].model.attention


def _finding(climb: Climb, corpus: str, rungs: list[str]) -> str:
    """What attention changes where sentences are longest; nothing of a test set that has too few
    sentences of every length.
    """
    buckets = {name: longest_bucket(climb, name) for name in rungs}
    if None in buckets.values():
        return ""
    said = [f"{name} {percent([bucket])}" for name, bucket in buckets.items()]
    low, high = buckets[rungs[0]]["length"]
    range_ = f"{low} words or more" if high > 100 else f"{low} to {high} words"
    several = len(length_line(climb, rungs[0])) > 1
    asked = f"the longest sources of {corpus}" if several else f"{corpus}, all of one length"
    return f"BLEU on {asked} ({range_}): {', '.join(said)}."
