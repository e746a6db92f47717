"""Analogies: "man is to king as woman is to ...?" answered by adding and subtracting vectors.

3CosAdd (Mikolov et al. 2013c; Levy & Goldberg 2014, equation 1): of all words but the three of the
question, the one whose vector has the highest cosine with king - man + woman, each at length 1.
"""

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components import world_words
from components.documents import require_utf8
from components.evaluation.metrics import CONFIDENCE, RESAMPLES, score_of
from components.models.word_vectors import WordVectors

SECTION = ":"  # begins a line that names what follows
SYNTACTIC = "gram"  # how the sections of word2vec's questions on word forms begin
RESTRICT = 30_000  # the most frequent words: those that are asked about and may be answers
CHUNK = 512  # questions answered by one product
NEAR = 3  # spellings named to whoever asks for an unknown word


@dataclass(frozen=True)
class Question:
    """first : second = third : answer, as in man : king = woman : queen."""

    section: str
    first: str
    second: str
    third: str
    answer: str

    @property
    def kind(self) -> str:
        """semantic or syntactic, as the authors of the questions divide them."""
        return "syntactic" if self.section.startswith(SYNTACTIC) else "semantic"


def read_questions(path: Path) -> list[Question]:
    """The questions of a file in word2vec's form: `: section` lines, and four words a line.

    Raises:
        ValueError: a line has no four words, or no section before it; the file holds no question,
            or is not UTF-8.
    """
    require_utf8(path)
    questions, section = [], ""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith(SECTION):
                section = line.removeprefix(SECTION).strip()
                continue
            words = line.lower().split()
            if not words:
                continue
            if len(words) != 4:
                raise ValueError(
                    f"{path}:{number}: {len(words)} words where a question has four: "
                    f"'{line.strip()}'; write it as 'man king woman queen'"
                )
            if not section:
                raise ValueError(f"{path}:{number}: no section yet; put ': family' before it")
            questions.append(Question(section, *words))
    if not questions:
        raise ValueError(f"{path}: no question; write four words a line, as 'man king woman queen'")
    return questions


def built_in_questions() -> list[Question]:
    """Questions on the words of the embedded world: titles, relatives, capitals, comparisons."""
    relatives = {pair for relation in world_words.RELATIONS for pair in relation}
    degrees = [(plain, more) for plain, more, _ in world_words.DEGREES]
    sections = {
        "titles": world_words.TITLES,
        "relatives": sorted(relatives),
        "capitals": world_words.CAPITALS,
        "gram-comparative": degrees,
    }
    return [
        Question(section, *(word.lower() for word in (*pair, *other)))
        for section, pairs in sections.items()
        for pair in pairs
        for other in pairs
        if not set(pair) & set(other)
    ]


def answer(vectors: WordVectors, questions: Sequence[Question]) -> list[dict]:
    """A record of each question: its words, the `prediction`, `correct`, and its `unknown` words.

    A question with unknown words has no prediction, and is not correct.
    """
    rows = vectors.rows
    asked = [[rows.get(w) for w in (q.first, q.second, q.third, q.answer)] for q in questions]
    known = [number for number, found in enumerate(asked) if None not in found]
    best = _three_cos_add(vectors, np.array([asked[n][:3] for n in known]).reshape(-1, 3))
    predicted = dict(zip(known, best, strict=True))
    return [
        _record(vectors, question, asked[number], predicted.get(number))
        for number, question in enumerate(questions)
    ]


def _three_cos_add(vectors: WordVectors, asked: np.ndarray) -> np.ndarray:
    """The row that answers each question, none of a word that it asks with, however that is
    spelled: with Paris, PARIS too is no answer, as in gensim. asked: rows, [questions, 3].
    """
    unit = vectors.unit  # [words, dimensions]
    same = np.array([vectors.rows[word.lower()] for word in vectors.words])  # [words]
    others = np.flatnonzero(same != np.arange(len(same)))  # further spellings
    best = np.zeros(len(asked), np.int64)
    for begin in range(0, len(asked), CHUNK):
        chunk = asked[begin : begin + CHUNK]
        first, second, third = (unit[chunk[:, place]] for place in range(3))
        cosines = (second - first + third) @ unit.T  # [questions, words], but for the length
        np.put_along_axis(cosines, chunk, -np.inf, axis=1)
        spelled = (same[others] == chunk[:, :, None]).any(axis=1)  # [questions, others]
        cosines[:, others] = np.where(spelled, -np.inf, cosines[:, others])
        best[begin : begin + CHUNK] = cosines.argmax(axis=1)
    return best


def _record(
    vectors: WordVectors, question: Question, rows: list[int | None], best: int | None
) -> dict:
    words = (question.first, question.second, question.third, question.answer)
    return {
        "section": question.section,
        "kind": question.kind,
        "words": list(words),
        "prediction": None if best is None else vectors.words[best],
        "correct": best is not None and vectors.rows[vectors.words[best].lower()] == rows[3],
        "unknown": [word for word, row in zip(words, rows, strict=True) if row is None],
    }


def calculate(
    vectors: WordVectors, terms: Sequence[tuple[int, str]], count: int
) -> list[tuple[str, float]]:
    """What `terms` add up to: the nearest words but their own, with their cosines.

    terms: (1 or -1, word), as (1, king), (-1, man), (1, woman); each vector at length 1.

    Raises:
        ValueError: a word has no vector; the message names near spellings.
    """
    for _, word in terms:
        if word.lower() not in vectors.rows:
            near = difflib.get_close_matches(word.lower(), vectors.rows, n=NEAR)
            told = f"; near it are {', '.join(near)}" if near else ", and none is spelled like it"
            raise ValueError(f"'{word}' is none of the {len(vectors.words):,} words{told}")
    rows = [vectors.rows[word.lower()] for _, word in terms]
    signs = np.array([sign for sign, _ in terms], np.float32)
    return vectors.nearest(signs @ vectors.unit[rows], rows, count)


def score(records: Iterable[dict]) -> dict:
    """The share of correct answers, overall, by kind and by section; unknown ones are counted.

    `score` and `interval` are of the questions whose words are all known, None where there are
    none; `n` how many those are, `unknown` the others.
    """
    groups: dict[str, list[dict]] = defaultdict(list)
    sections: dict[str, list[dict]] = defaultdict(list)
    for record in records:
        groups["all"].append(record)
        groups[record["kind"]].append(record)
        sections[record["section"]].append(record)
    told = {name: _score(found) for name, found in groups.items()}
    return {**told, "sections": {name: _score(found) for name, found in sections.items()}}


def _score(records: Sequence[dict]) -> dict:
    known = [record for record in records if not record["unknown"]]
    counts = {"n": len(known), "unknown": len(records) - len(known)}
    if not known:
        return {"score": None, "interval": None, **counts}
    share = sum(record["correct"] for record in known) / len(known)
    return {"score": share, "interval": _interval(known, share), **counts}


def _interval(known: Sequence[dict], share: float) -> list[float]:
    """Questions are no independent examples: each asks of two pairs, and a pair stands in many, on
    either side. So pairs are drawn, and a question counts as often as its first pair times as often
    as its second (the pigeonhole bootstrap, Owen 2007).
    """
    numbers: dict[tuple[str, ...], int] = {}

    def number(record: dict, pair: Sequence[str]) -> int:
        return numbers.setdefault((record["section"], *pair), len(numbers))

    first, second = np.array(
        [(number(r, r["words"][:2]), number(r, r["words"][2:])) for r in known]
    ).T
    if share in (0.0, 1.0):  # nothing to draw: exact, of so many questions as can share no pair
        return score_of([{"correct": share}] * max(1, len(numbers) // 2), "accuracy")[1]
    correct = np.array([record["correct"] for record in known], np.float64)
    random, scores = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = random.integers(len(numbers), size=len(numbers))
        times = np.bincount(drawn, minlength=len(numbers))
        counts = times[first] * times[second]
        if counts.any():
            scores.append(counts @ correct / counts.sum())
    tail = (1 - CONFIDENCE) / 2
    return [float(end) for end in np.quantile(scores, [tail, 1 - tail])]
