"""Word similarity: do cosines rank pairs of words as people do?"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.documents import require_utf8
from components.evaluation.metrics import CONFIDENCE, RESAMPLES
from components.models.word_vectors import WordVectors


@dataclass(frozen=True)
class Pair:
    """Two words, and how alike people find them, on the file's own scale."""

    first: str
    second: str
    judged: float


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file: two words and a number a line, by tabs or spaces.

    Raises:
        ValueError: a line is none; the file holds no pair, or is not UTF-8.
    """
    require_utf8(path)
    pairs = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            found = line.lower().split()
            if not found:
                continue
            try:
                first, second, judged = found
                pair = Pair(first, second, float(judged))
                if not math.isfinite(pair.judged):  # it has no rank among numbers
                    raise ValueError(judged)
                pairs.append(pair)
            except ValueError:
                raise ValueError(
                    f"{path}:{number}: '{line.strip()}' is no pair; write two words and a number, "
                    "as 'tiger cat 7.35'"
                ) from None
    if not pairs:
        raise ValueError(f"{path}: no pair; write two words and a number a line")
    return pairs


def compare(vectors: WordVectors, pairs: Sequence[Pair]) -> list[dict]:
    """A record of each pair: its words, what is `judged`, the `cosine`, None of unknown words."""
    records = []
    for pair in pairs:
        rows = [vectors.rows.get(word) for word in (pair.first, pair.second)]
        known = None not in rows
        cosine = float(vectors.unit[rows[0]] @ vectors.unit[rows[1]]) if known else None
        words = [pair.first, pair.second]
        records.append({"words": words, "judged": pair.judged, "cosine": cosine})
    return records


def score(records: Sequence[dict]) -> dict:
    """Spearman's rho of cosines and judgements with its interval; None where it is undefined: of
    fewer than two known pairs, of cosines that are all equal, and the interval of so few pairs that
    a resample has no order. `n`: known pairs; `unknown`: the others.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    known = [record for record in records if record["cosine"] is not None]
    counts = {"n": len(known), "unknown": len(records) - len(known)}
    judged, cosines = (np.array([r[key] for r in known]) for key in ("judged", "cosine"))
    if len(known) < 2 or np.ptp(cosines) == 0 or np.ptp(judged) == 0:
        return {"score": None, "interval": None, **counts}
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # told by None
        found = bootstrap(
            (judged, cosines),
            spearman,
            paired=True,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    interval = [float(found.low), float(found.high)] if np.isfinite(found).all() else None
    return {"score": float(spearman(judged, cosines)), "interval": interval, **counts}


def spearman(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
    """Spearman's rho: the correlation of ranks, ties at their mean rank."""
    from scipy.stats import rankdata

    a, b = (rankdata(side, axis=axis) for side in (first, second))
    a, b = a - a.mean(axis=axis, keepdims=True), b - b.mean(axis=axis, keepdims=True)
    return (a * b).sum(axis=axis) / np.sqrt((a * a).sum(axis=axis) * (b * b).sum(axis=axis))
