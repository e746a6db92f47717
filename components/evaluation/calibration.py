"""Whether probabilities are worth their name."""

from collections.abc import Mapping, Sequence

import numpy as np

from components.evaluation.classification import probabilities

BINS = 15  # of equal width, as in Guo et al. 2017, section 5


def calibration(records: Sequence[Mapping]) -> dict[str, object]:
    """The expected calibration error of `records`, and the bins that it is made of.

    The mean over examples of |accuracy - confidence| of their bin (Guo et al. 2017, section 2);
    the confidence is the probability of the predicted label, bin m holds ((m - 1) / M, m / M].

    records: as `classification.judge` makes them.

    Returns "ece", "confidence" (its mean) and "bins": each its "count", "confidence" and
    "accuracy", means that are None where it is empty.
    """
    confidence = np.array([_confidence(record) for record in records])  # [n]
    correct = np.array([record["correct"] for record in records], dtype=float)  # [n]
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # [n]
    bins, error = [], 0.0
    for number in range(BINS):
        inside = place == number
        count = int(inside.sum())
        sure = float(confidence[inside].mean()) if count else None
        right = float(correct[inside].mean()) if count else None
        bins.append({"count": count, "confidence": sure, "accuracy": right})
        error += count / len(records) * abs(right - sure) if count else 0.0
    return {"ece": error, "confidence": float(confidence.mean()), "bins": bins}


def _confidence(record: Mapping) -> float:
    return probabilities(record["scores"])[record["prediction"]]
