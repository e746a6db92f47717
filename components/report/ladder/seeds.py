"""One figure out of several trainings'."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.evaluation.metrics import CONFIDENCE

UNMEASURED = {"score": None, "interval": None}


def over_seeds(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The `score` and `interval` of the same figure, one a seed, as one.

    Of one seed they stay what they are: the interval is over test examples. Of several: the mean,
    and Student's interval of it, which is over seeds. Both are None where a seed has no score, as
    of questions with unknown words alone.
    """
    if any(one["score"] is None or one["interval"] is None for one in found):
        return dict(UNMEASURED)
    if len(found) == 1:
        return {"score": found[0]["score"], "interval": list(found[0]["interval"])}
    from scipy.stats import t

    scores = np.array([one["score"] for one in found])
    error = scores.std(ddof=1) / np.sqrt(len(scores))
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(scores) - 1) * error)
    mean = float(scores.mean())
    return {"score": mean, "interval": [mean - reach, mean + reach]}
