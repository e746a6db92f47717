"""Intervals over examples and training seeds: a method is a lottery over both."""

import numpy as np

from components.evaluation.metrics import CONFIDENCE, RESAMPLES


def interval(scores: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The percentile interval of the mean of `scores`, shape (training seeds, examples).

    Both are drawn anew in each resample, independently (the pigeonhole bootstrap: Owen 2007). With
    few seeds it is a little narrow, as every bootstrap of few is.
    """
    rng = np.random.default_rng(seed)
    return _quantiles([_draw(scores, rng, _examples(scores, rng)) for _ in range(RESAMPLES)])


def difference(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of `a` minus mean of `b` with its interval: (mean, low, high).

    a, b: (training seeds, examples), of the same examples, which are paired; the seeds are not.

    Raises:
        ValueError: they are of other numbers of examples.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} examples on one side, {b.shape[1]} on the other")
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        examples = _examples(a, rng)
        drawn.append(_draw(a, rng, examples) - _draw(b, rng, examples))
    return float(a.mean() - b.mean()), *_quantiles(drawn)


def _examples(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(scores.shape[1], size=scores.shape[1])


def _draw(scores: np.ndarray, rng: np.random.Generator, examples: np.ndarray) -> float:
    seeds = rng.integers(scores.shape[0], size=scores.shape[0])
    return float(scores[seeds][:, examples].mean())


def _quantiles(drawn: list[float]) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
