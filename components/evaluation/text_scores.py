"""Scores of generated texts: exact match, token F1, BLEU, chrF; and scores of whole corpora.

Exact match and F1 are means over examples. BLEU and chrF are those of the corpus, as sacreBLEU
computes them (Post 2018), here between 0 and 1: they are functions of counts that are added up over
examples, and so are bits per byte and the perplexity per word. An example's `statistics` are such
counts, and resampling examples means resampling them.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, DecimalException
from typing import Any

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
# sign, currency, digits in threes or not, fraction, power of ten, unit, the end of a sentence
NUMBER = re.compile(
    r"([+-]?)\s*\$?\s*([+-]?)(\d{1,3}(?:,\d{3})+|\d*)(\.\d+)?\.?(e[+-]?\d+)?\s*%?\.*", re.IGNORECASE
)
PLAIN_DIGITS = 40  # of a number that is written out, zeros before and after included
MOST_NATS = 700.0  # of a word: e ** 709.8 is the largest float, and such perplexities are added up
PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(text: str) -> str:
    """SQuAD v1.1's rule (Rajpurkar et al. 2016, section 6.1 and its evaluation script).

    Lower case, no ASCII punctuation, no articles (a, an, the), single spaces. It takes the sign and
    the point out of numbers: for those there is `number`. Where nothing would be left, as of the
    answer `A` to a multiple choice, articles stay, and of `-` the punctuation too: the script calls
    an empty prediction right there.
    """
    lower = text.lower()
    bare = lower.translate(PUNCTUATION)
    forms = (" ".join(form.split()) for form in (ARTICLES.sub(" ", bare), bare, lower))
    return next(filter(None, forms), "")


def number(text: str) -> str:
    """A number by its value, to its last digit: `$1,000.0` and `1000` are equal. What is no number,
    as `1 2` or `1,5`, stays a text.

    A number of many digits is written as these and a power of ten: what a model says must not
    decide how much memory its answer takes.
    """
    plain = text.strip()
    found = NUMBER.fullmatch(plain)
    if not found:
        return plain
    try:
        value = Decimal("".join(found.groups("")).replace(",", ""))
    except DecimalException:  # no digit, or a power of ten beyond the library's
        return plain
    sign, digits, power = value.as_tuple()  # rounded nowhere, as arithmetic with it would be
    whole = "".join(map(str, digits)).lstrip("0")
    short = whole.rstrip("0")
    power += len(whole) - len(short)
    same = f"{'-' * sign}{short}e{power}" if short else "0"
    return same if len(short) + abs(power) > PLAIN_DIGITS else format(Decimal(same), "f")


NORMALISERS: Mapping[str, Callable[[str], str]] = {
    "squad": squad,
    "number": number,
    "none": str.strip,
}


def exact_match(prediction: str, reference: str) -> float:
    """1 where two normalised answers are equal."""
    return float(prediction == reference)


def token_f1(prediction: str, reference: str) -> float:
    """The harmonic mean of precision and recall of a normalised answer's words, as SQuAD's."""
    said, wanted = prediction.split(), reference.split()
    common = (Counter(said) & Counter(wanted)).total()
    if not common:
        return float(said == wanted)
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _by_answer(
    score: Callable[[str, str], float],
) -> Callable[[Sequence[str], Sequence[str], str], list[dict[str, Any]]]:
    def judged(
        predictions: Sequence[str], references: Sequence[str], normalise: str
    ) -> list[dict[str, Any]]:
        same = NORMALISERS[normalise]
        pairs = zip(predictions, references, strict=True)
        return [{"correct": score(same(said), same(wanted))} for said, wanted in pairs]

    return judged


def _by_corpus(
    name: str,
) -> Callable[[Sequence[str], Sequence[str], str], list[dict[str, Any]]]:
    def judged(
        predictions: Sequence[str], references: Sequence[str], _normalise: str
    ) -> list[dict[str, Any]]:
        corpus, sentence = _metric(name), _metric(name, sentence=True)
        counts = corpus._extract_corpus_statistics(list(predictions), [list(references)])
        each = (
            sentence.sentence_score(said, [wanted]).score / 100
            for said, wanted in zip(predictions, references, strict=True)
        )
        return [
            {"correct": min(score, 1.0), "statistics": [float(count) for count in row]}
            for score, row in zip(each, counts, strict=True)
        ]

    return judged


JUDGED = {
    "exact_match": _by_answer(exact_match),
    "f1": _by_answer(token_f1),
    "bleu": _by_corpus("bleu"),
    "chrf": _by_corpus("chrf"),
}


def judge_texts(
    metric: str, predictions: Sequence[str], references: Sequence[str], normalise: str
) -> list[dict[str, Any]]:
    """For each pair `correct`, its score between 0 and 1, and its `statistics` where the metric is
    one of the corpus. Of BLEU, `correct` is the sentence's, with the orders that it is long enough
    for (`eff:yes`).
    """
    return JUDGED[metric](predictions, references, normalise)


def signature(metric: str) -> str | None:
    """What sacreBLEU calls a score's conditions; None for other metrics."""
    if metric not in ("bleu", "chrf"):
        return None
    scorer = _metric(metric)
    scorer.corpus_score(["a"], [["a"]])  # it counts the references
    return str(scorer.get_signature())


def _metric(name: str, sentence: bool = False) -> Any:
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(effective_order=sentence) if name == "bleu" else CHRF()


def _sacrebleu(name: str) -> Callable[[np.ndarray], np.ndarray]:
    def score(sums: np.ndarray) -> np.ndarray:
        scorer = _metric(name)
        rows = sums.reshape(-1, sums.shape[-1]).tolist()
        found = [scorer._compute_score_from_stats(row).score / 100 for row in rows]
        return np.array(found).reshape(sums.shape[:-1])

    return score


def bits_per_byte(sums: np.ndarray) -> np.ndarray:
    """From the sums of nats, bytes and words."""
    return sums[..., 0] / math.log(2) / sums[..., 1]


def word_perplexity(sums: np.ndarray) -> np.ndarray:
    """From the sums of nats, bytes and words: 2 ** (bits per byte x bytes per word).

    Of a script without spaces a "word" is a paragraph, whose perplexity no float may hold.
    """
    return np.exp(np.minimum(sums[..., 0] / sums[..., 2], MOST_NATS))


# sums of statistics [..., k] to scores [...]; metrics that are not here are means of `correct`
OF_SUMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "bleu": _sacrebleu("bleu"),
    "chrf": _sacrebleu("chrf"),
    "bits_per_byte": bits_per_byte,
    "word_perplexity": word_perplexity,
}
