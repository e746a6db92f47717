"""The embedded world: English from a seeded grammar whose probabilities are known exactly.

A document's `logprob` is the natural logarithm of its probability under the grammar, the choice of
its kind included, so a corpus has a known entropy and every language model a known limit. It is
exact because the grammar is unambiguous: each choice shows in the text, so a text has one
derivation (the tests enumerate whole kinds and add the probabilities up to 1).

Every document is one sentence, in reviews followed at times by a verdict such as "This film is
good.". Splits are decided by a hash of what a document combines (who with whom, which aspect with
which judgement, which numbers), so no document is in two splits, and whoever only remembers
combinations fails on those held out. The probability does not know of the splits.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, TypeVar

from components import world_words as words

Item = TypeVar("Item")
Row = dict[str, Any]

HELD_OUT = 0.05  # of the combinations, for validation and for test each
CLAUSE_WEIGHTS = (0.6, 0.12, 0.1, 0.18)
PAIRED = 0.5  # of the judgements have a second word of the same side
REVIEW_FORMS = ("alone", "opening", "and", "but", "although, first", "although, last")
REVIEW_WEIGHTS = (0.3, 0.1, 0.15, 0.15, 0.15, 0.15)
VERDICT = 0.9  # of the reviews end with one
VERDICTS = {1: ("good", "great", "fine"), 0: ("bad", "poor", "awful")}
VERDICT_WEIGHTS = (0.7, 0.2, 0.1)
LARGEST = 20  # number that somebody has at first
LARGEST_CHANGE = 9
STORY_STEPS = (1, 2, 3, 4)
ANNOUNCED = "Step by step:"


class Draw:
    """Makes choices and adds up their log-probability."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.logprob = 0.0

    def pick(self, options: Sequence[Item]) -> Item:
        """One of `options`, each as probable."""
        self.logprob -= math.log(len(options))
        return options[int(self._random.random() * len(options))]

    def weigh(self, options: Sequence[Item], weights: Sequence[float]) -> Item:
        """One of `options`, by `weights`, which add up to 1."""
        place = self._random.random()
        chosen = 0
        while chosen < len(weights) - 1 and place >= weights[chosen]:
            place -= weights[chosen]
            chosen += 1
        self.logprob += math.log(weights[chosen])
        return options[chosen]

    def happens(self, probability: float) -> bool:
        return self.weigh((True, False), (probability, 1 - probability))


def _other(options: Sequence[Item], *taken: Item) -> list[Item]:
    return [option for option in options if option not in taken]


def _person(draw: Draw, *taken: str) -> tuple[str, int]:
    """A name and 0 for he, 1 for she."""
    gender = draw.pick((0, 1))
    return draw.pick(_other((words.HE, words.SHE)[gender], *taken)), gender


def _family(draw: Draw) -> Row:
    first, his = _person(draw)
    second, hers = _person(draw, first)
    relation, inverse = draw.pick(words.RELATIONS)
    titles = draw.pick(words.TITLES)[his], draw.pick(words.TITLES)[hers]
    feeling = draw.pick(words.FEELINGS)
    text = (
        f"{first} the {titles[0]} is the {relation[his]} of {second} the {titles[1]}, so {second} "
        f"is the {inverse[hers]} of {first} and {first} {feeling} {('him', 'her')[hers]}."
    )
    return {"text": text, "combination": f"{first} {second} {relation[his]}"}


def _capital(draw: Draw) -> Row:
    name, gender = _person(draw)
    home = draw.pick(words.CAPITALS)
    away = draw.pick(_other(words.CAPITALS, home))
    how, month = draw.pick(words.TRAVELS), draw.pick(words.MONTHS)
    text = (
        f"{name} lives in {home[1]}, the capital of {home[0]}, and in {month} "
        f"{('he', 'she')[gender]} {how} from {home[0]} to {away[0]} to see its capital {away[1]}."
    )
    return {"text": text, "combination": f"{name} {home[0]} {away[0]}"}


def _comparative(draw: Draw) -> Row:
    name, _ = _person(draw)
    plain, more, most = draw.pick(words.DEGREES)
    one = draw.pick(words.BEINGS)
    two = draw.pick(_other(words.BEINGS, one))
    three = draw.pick(_other(words.BEINGS, one, two))
    text = (
        f"{name} says that the {one} is {plain}, that the {two} is {more} than the {one} and that "
        f"the {three} is the {most} of all."
    )
    return {"text": text, "combination": f"{one} {two} {three}"}


def _bank(draw: Draw) -> Row:
    name, gender = _person(draw)
    month = draw.pick(words.MONTHS)
    who = ("he", "she")[gender]
    if draw.happens(0.5):
        sense, act, thing = "river", draw.pick(words.BY_WATER), draw.pick(words.WATER_SIGHTS)
        place = draw.pick(words.RIVERS)
        text = f"In {month} {name} {act} on the bank of the {place}, where {who} saw {thing}."
    else:
        sense, act, thing = "money", draw.pick(words.AT_BANK), draw.pick(words.MONEY)
        place = draw.pick(words.CAPITALS)[1]
        text = f"In {month} {name} went to the bank in {place}, where {who} {act} {thing}."
    return {"text": text, "sense": sense, "combination": f"{name} {place} {act}"}


def _clause(draw: Draw, good: int, aspect: str) -> tuple[str, str]:
    """A judgement of an aspect that is good (1) or bad (0), and its combination.

    A word of praise may be turned to blame right before it ("not"), or far from it, where no pair
    of neighbours shows it: "few critics find the plot moving".
    """
    form = draw.weigh(("plain", "negated", "without", "found"), CLAUSE_WEIGHTS)
    if form == "without":
        noun = draw.pick((words.FLAWS, words.MERITS)[good])
        return f"the {aspect} is not without {noun}", f"{aspect} without {noun}"
    turned = form == "negated" or (form == "found" and draw.happens(0.5))
    choices = (words.BLAME, words.PRAISE)[good != turned]
    adjective = draw.pick(choices)
    if form == "found":
        share = draw.pick((words.MANY, words.FEW)[turned])
        who = draw.pick(words.JUDGES)
        clause = f"{share} {who} find the {aspect} {adjective}"
        return clause, f"{aspect} {share} {adjective}"
    said = f"not {adjective}" if turned else adjective
    more = ""
    if draw.happens(PAIRED):
        more = f" {('and', 'or')[turned]} {draw.pick(_other(choices, adjective))}"
    return f"the {aspect} is {said}{more}", f"{aspect} {said}"


def _review(draw: Draw) -> Row:
    """The main clause decides the label: what stands before "but" or behind "although" yields."""
    good = draw.pick((0, 1))
    film = f"{draw.pick(words.GENRES)} by {draw.pick(words.MAKERS)}"
    aspect = draw.pick(words.ASPECTS)
    clause, combination = _clause(draw, good, aspect)
    form = draw.weigh(REVIEW_FORMS, REVIEW_WEIGHTS)
    if form == "alone":
        review = f"In this {film} {clause}."
    elif form == "opening":
        opening, said = draw.pick(words.OPENINGS)
        review = f"This {film} {opening}, {('but', 'and')[said == good]} {clause}."
    else:
        side = good if form == "and" else 1 - good
        other, _ = _clause(draw, side, draw.pick(_other(words.ASPECTS, aspect)))
        joined = {
            "and": f"{other} and {clause}",
            "but": f"{other}, but {clause}",
            "although, first": f"although {other}, {clause}",
            "although, last": f"{clause}, although {other}",
        }[form]
        review = f"In this {film} {joined}."
    text = review
    if draw.happens(VERDICT):
        text = f"{review} This film is {draw.weigh(VERDICTS[good], VERDICT_WEIGHTS)}."
    label = ("negative", "positive")[good]
    return {"text": text, "review": review, "label": label, "combination": combination}


def _arithmetic(draw: Draw) -> Row:
    name, gender = _person(draw)
    thing = draw.pick(words.THINGS)
    numbers = range(1, LARGEST + 1)
    first, more = draw.pick(numbers), draw.happens(0.5)
    second = draw.pick(numbers if more else range(1, first + 1))
    answer = first + second if more else first - second
    worked, who = draw.happens(0.5), ("he", "she")[gender]
    question = f"{name} has {first} {thing} and {'finds' if more else 'loses'} {second}"
    step = f"{first} {'+' if more else '-'} {second} = {answer}"
    text = f"{question}{f', {step}' if worked else ''}, so now {who} has {answer} {thing}."
    row = {"text": text, "question": question, "steps": step, "who": who, "worked": worked}
    return {**row, "answer": str(answer), "combination": f"{first} {more} {second}"}


def _story(draw: Draw) -> Row:
    """In GSM8K's form (Cobbe et al. 2021): a step a line, and `####` before the answer. A line that
    announces steps lets a prompt ask for them, as Kojima et al. (2022) do.
    """
    name, _ = _person(draw)
    thing, held = draw.pick(words.THINGS), draw.pick(range(1, LARGEST + 1))
    question, steps = f"{name} has {held} {thing}", []
    for _ in range(draw.pick(STORY_STEPS)):
        more = not held or draw.happens(0.5)
        change = draw.pick(range(1, (LARGEST_CHANGE if more else min(held, LARGEST_CHANGE)) + 1))
        after = held + change if more else held - change
        question += f", {'finds' if more else 'loses'} {change}"
        steps.append(f"{held} {'+' if more else '-'} {change} = {after}")
        held = after
    row = {"question": f"{question}.", "steps": "\n".join(steps), "answer": str(held)}
    worked = draw.happens(0.5)
    lines = [row["question"], *([ANNOUNCED, *steps] if worked else []), f"#### {held}"]
    return {**row, "text": "\n".join(lines), "worked": worked, "combination": " ".join(steps)}


def _translation(draw: Draw) -> Row:
    """The invented language puts the verb last and adjectives after their nouns."""
    subject, verb = draw.pick(words.NOUNS), draw.pick(words.VERBS)
    target = draw.pick(_other(words.NOUNS, subject))
    first, second = draw.pick(words.ADJECTIVES), draw.pick(words.ADJECTIVES)
    english = f"the {first[0]} {subject[0]} {verb[0]} the {second[0]} {target[0]}"
    invented = f"{subject[1]} {first[1]} {target[1]} {second[1]} {verb[1]}"
    return {
        "text": f"In Velan, {english} is {invented}.",
        "source": english,
        "target": invented,
        "alignment": [[1, 1], [2, 0], [3, 4], [5, 3], [6, 2]],
        "combination": f"{subject[0]} {verb[0]} {target[0]}",
    }


def _pronoun(draw: Draw) -> Row:
    being, owner = draw.pick(words.BEINGS), _person(draw)[0]
    act, objects, own, others = draw.pick(words.REFUSALS)
    thing = draw.pick(objects)
    of_being = draw.happens(0.5)
    reason = draw.pick(own if of_being else others)
    referent = being if of_being else thing
    colour = draw.pick(words.ADJECTIVES)[0]
    text = (
        f"The {colour} {being} of {owner} did not {act} the {thing} because it was too {reason}, "
        f"and we all know that the {referent} was too {reason}."
    )
    return {"text": text, "referent": referent, "combination": f"{being} {thing} {reason}"}


GRAMMARS: Mapping[str, Callable[[Draw], Row]] = {
    "family": _family,
    "capital": _capital,
    "comparative": _comparative,
    "bank": _bank,
    "review": _review,
    "arithmetic": _arithmetic,
    "translation": _translation,
    "pronoun": _pronoun,
    "story": _story,
}
# `story` is drawn where it is named; the world without it stays what it was, byte by byte
KINDS = tuple(kind for kind in GRAMMARS if kind != "story")
# as many times as another kind: which words praise shows in reviews alone, and is learned last
SHARES = {"review": 3}


def documents(size: int, seed: int, kinds: Sequence[str] | None = None) -> Iterator[Row]:
    """`size` documents of `kinds` by their shares; of all but `story` where none is named.

    A row has `text`, `kind`, `logprob`, `combination`, and gold labels by kind: `sense` of "bank";
    `review` (the text without its verdict) and `label`; of sums the `question`, the `answer`, the
    `steps` (a line each) and whether the text shows them (`worked`); `source`, `target` and their
    `alignment` (pairs of word numbers); the pronoun's `referent`.

    Raises:
        ValueError: there is no such kind.
    """
    kinds = tuple(kinds or KINDS)
    if unknown := [kind for kind in kinds if kind not in GRAMMARS]:
        raise ValueError(f"the world has no kind '{unknown[0]}'; its kinds: {', '.join(GRAMMARS)}")
    random = Random(seed)
    for _ in range(size):
        yield document(Draw(random), kinds)


def document(draw: Draw, kinds: Sequence[str] = KINDS) -> Row:
    """One document, by the choices of `draw`."""
    shares = [SHARES.get(kind, 1) for kind in kinds]
    kind = draw.weigh(kinds, [share / sum(shares) for share in shares])
    row = GRAMMARS[kind](draw)
    return {**row, "kind": kind, "logprob": round(draw.logprob, 9)}


def split_of(row: Row) -> str:
    """`train`, `validation` or `test`: by a hash of what the document combines."""
    digest = blake2b(f"{row['kind']} {row['combination']}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    if place < HELD_OUT:
        return "validation"
    return "test" if place < 2 * HELD_OUT else "train"
