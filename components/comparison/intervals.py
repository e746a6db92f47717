"""Intervals over examples and training seeds: a method is a lottery over both.

The figures of a comparison are arrays: (training seeds, examples), or (..., k) where a score is one
of sums of k statistics of each example, such as BLEU; see `evaluation.text_scores`.

Seeds and examples are crossed: every seed is judged on the same examples. With s seeds and n
examples the variance of the mean score is that of three parts (Satterthwaite 1946; Owen 2007 for
the model),

    V = between seeds / s  +  between examples / n  -  what is left / (s n),

of which the last is in each of the first two, and so is taken out once; V is never less than the
larger of the two. An interval takes Student's t with the degrees of freedom of Welch and
Satterthwaite, V^2 over the sum of each part's V_i^2 / df_i: from s - 1, where the seeds differ
most, to n - 1, where the examples do. Three seeds whose standard deviation is far above that of
examples thus give intervals of 4.3 standard errors to each side; a bootstrap of three seeds ends at
the lowest and the highest of them, which is far too narrow.

A score of sums enters by its jackknife pseudo-values (Efron & Tibshirani 1993, chapter 11), which
of a mean are the figures themselves.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from components.evaluation.metrics import CONFIDENCE, Score


class Estimate(NamedTuple):
    """A mean, its standard error, and the degrees of freedom of Student's t for both."""

    mean: float
    error: float
    freedom: float

    def reach(self, doubt: float) -> float:
        """How many standard errors lie on each side of an interval that misses with `doubt`."""
        from scipy.stats import t

        return float(t.isf(doubt / 2, self.freedom))

    @property
    def chance(self) -> float:
        """How likely a mean as far from zero is where the truth is zero: the two-sided p-value."""
        from scipy.stats import t

        if not self.error:
            return float(self.mean == 0)
        return float(2 * t.sf(abs(self.mean) / self.error, self.freedom))


def score_of(figures: np.ndarray, score: Score = None) -> np.ndarray:
    """What each seed scores over all examples. Shape (training seeds,)."""
    return figures.mean(axis=1) if score is None else score(figures.sum(axis=1))


def interval(
    figures: np.ndarray, score: Score = None, most: float = 1.0, doubt: float = 1 - CONFIDENCE
) -> tuple[float, float]:
    """The interval of the mean score, between 0 and `most`. Of one seed it covers examples alone.

    Of a mean of figures between 0 and 1 it is Wilson's (1927), for as many examples as would leave
    the same variance: mean (1 - mean) / V (Korn & Graubard 1998). It keeps to the range by itself,
    and a method that is always right has one of some width.

    Raises:
        ValueError: there are fewer than two examples.
    """
    found = _estimate([figures], score)
    reach, mean = found.reach(doubt), found.mean
    if score is not None:
        around = reach * found.error
        return max(0.0, mean - around), min(most, mean + around)
    examples = mean * (1 - mean) / found.error**2 if found.error else figures.shape[1]
    more = reach**2 / examples
    middle = (mean + more / 2) / (1 + more)
    around = math.sqrt(more * mean * (1 - mean) + more**2 / 4) / (1 + more)
    return max(0.0, middle - around), min(1.0, middle + around)


def difference(a: np.ndarray, b: np.ndarray, score: Score = None) -> Estimate:
    """Mean score of `a` minus that of `b`.

    The examples are the same on both sides, and paired; the seeds are not, so that each side adds
    its own variance between seeds, with its own degrees of freedom (Welch 1947).

    Raises:
        ValueError: they are of other numbers of examples, or of fewer than two.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} examples on one side, {b.shape[1]} on the other")
    return _estimate([a, b], score)


def joint(
    differences: Sequence[Estimate], competitors: int, doubt: float = 1 - CONFIDENCE
) -> list[tuple[float, float, float]]:
    """Differences to the best of `competitors`, whose intervals hold together: (mean, low, high).

    An interval lies below zero where Holm's correction (1979) rejects that the two are equal. The
    best was chosen by the same test data, so it might have been any: what may be rejected wrongly
    are all pairs of competitors, and Holm begins with so many. Where all are equal, some interval
    misses zero in `doubt` of all comparisons at most.
    """
    pairs = competitors * (competitors - 1) // 2
    chances = [each.chance for each in differences]
    found, level, rejects = {}, doubt, True
    for rank, place in enumerate(np.argsort(chances, kind="stable").tolist()):
        if rejects:  # from the first that is not rejected on, none is, and all have its level
            level = doubt / (pairs - rank)
            rejects = chances[place] <= level
        each = differences[place]
        around = each.reach(level) * each.error
        found[place] = (each.mean, each.mean - around, each.mean + around)
    return [found[place] for place in range(len(differences))]


def covered(seeds: int) -> str:
    """What the intervals of so many training seeds speak of, and what they do not."""
    if seeds == 1:
        return "Of one seed, intervals cover other test examples, and no other training seeds."
    few = " Two seeds say little of how much seeds differ, so they are wide." if seeds == 2 else ""
    return f"Intervals cover other test examples and other training seeds.{few}"


def _estimate(sides: Sequence[np.ndarray], score: Score) -> Estimate:
    """The mean of the first side, less that of a second one."""
    signed = list(zip((1, -1), sides, strict=False))
    values = [(sign, _pseudo_values(side, score)) for sign, side in signed]
    adds = sum(sign * each.mean(axis=0) for sign, each in values)  # (examples,)
    within = adds.var(ddof=1) / len(adds)
    means = [score_of(side, score) for side in sides]  # (seeds,) each
    several = [(own, each) for own, (_, each) in zip(means, values, strict=True) if len(own) > 1]
    between = [(own.var(ddof=1) / len(own), len(own) - 1) for own, _ in several]
    left = [_left(each) for _, each in several]
    parts = [(within, len(adds) - 1), *between, *left]  # variances and degrees of freedom
    seeds = sum(part for part, _ in between)
    variance = max(seeds, within, seeds + within - sum(part for part, _ in left))
    spread = sum(part**2 / freedom for part, freedom in parts)
    freedom = variance**2 / spread if spread else len(adds) - 1
    mean = sum(sign * own.mean() for (sign, _), own in zip(signed, means, strict=True))
    return Estimate(float(mean), math.sqrt(variance), float(freedom))


def _left(values: np.ndarray) -> tuple[float, int]:
    """What neither seed nor example explains of the mean's variance, and its degrees of freedom."""
    seeds, examples = values.shape
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    freedom = (seeds - 1) * (examples - 1)
    return (rest**2).sum() / freedom / (seeds * examples), freedom


def _pseudo_values(figures: np.ndarray, score: Score) -> np.ndarray:
    """What each example adds to each seed's score. Shape (training seeds, examples)."""
    count = figures.shape[1]
    if count < 2:
        raise ValueError(f"an interval needs two examples at least, got {count}")
    if score is None:
        return figures
    sums = figures.sum(axis=1, keepdims=True)  # (seeds, 1, k)
    return count * score(sums) - (count - 1) * score(sums - figures)
