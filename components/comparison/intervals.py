"""Intervals over examples and training seeds: a method is a lottery over both.

The figures of a comparison are arrays: (training seeds, examples), or (..., k) where a score is one
of sums of k statistics of each example, such as BLEU; see `evaluation.text_scores`.
"""

import numpy as np

from components.evaluation.metrics import CONFIDENCE, RESAMPLES, Score


def score_of(figures: np.ndarray, score: Score = None) -> np.ndarray:
    """What each seed scores over all examples. Shape (training seeds,)."""
    return figures.mean(axis=1) if score is None else score(figures.sum(axis=1))


def interval(figures: np.ndarray, score: Score = None, seed: int = 0) -> tuple[float, float]:
    """The percentile interval of the mean score.

    Seeds and examples are both drawn anew in each resample, independently (the pigeonhole
    bootstrap: Owen 2007). With few seeds it is a little narrow, as every bootstrap of few is.
    """
    rng = np.random.default_rng(seed)
    drawn = [_draw(figures, rng, _examples(figures, rng), score) for _ in range(RESAMPLES)]
    return _quantiles(drawn)


def difference(
    a: np.ndarray, b: np.ndarray, score: Score = None, seed: int = 0
) -> tuple[float, float, float]:
    """Mean score of `a` minus that of `b` with its interval: (mean, low, high).

    The examples are the same on both sides, and paired; the seeds are not.

    Raises:
        ValueError: they are of other numbers of examples.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} examples on one side, {b.shape[1]} on the other")
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        examples = _examples(a, rng)
        drawn.append(_draw(a, rng, examples, score) - _draw(b, rng, examples, score))
    mean = float(score_of(a, score).mean() - score_of(b, score).mean())
    return mean, *_quantiles(drawn)


def _examples(figures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(figures.shape[1], size=figures.shape[1])


def _draw(
    figures: np.ndarray, rng: np.random.Generator, examples: np.ndarray, score: Score
) -> float:
    seeds = rng.integers(figures.shape[0], size=figures.shape[0])
    return float(score_of(figures[seeds][:, examples], score).mean())


def _quantiles(drawn: list[float]) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
