"""How results are scored, how sure a score is, and which results may be compared at all.

Two hashes keep comparisons honest. The comparison key (examples, split, labels, metric, what makes
answers equal, and the bytes of this file and of the scores') must be equal for two results to be
compared. The fingerprint adds what may differ between competitors: template, shots, tokenizer and
decoding.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from components.evaluation import text_scores
from components.lineage import file_hash, value_hash
from components.metric_names import LOWER_IS_BETTER

CONFIDENCE = 0.95
RESAMPLES = 2000  # 50 of them lie beyond each end of a 95 % interval
CHUNK = 1 << 20  # draws held in memory at once: 8 MB of indices

# of a corpus, from sums of its examples' statistics [..., k]; None: the mean over examples
Score = Callable[[np.ndarray], np.ndarray] | None


def bootstrap_interval(
    values: Sequence[float],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    score: Score = None,
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean (Efron & Tibshirani 1993, chapter 13).

    It speaks of other examples drawn like these, not of other training seeds. Equal values give
    an interval of no width, however few they are.

    Args:
        values: one figure per example, such as 1 for correct and 0 for wrong; shape [n].
        confidence: the share of intervals that cover the mean, between 0 and 1.
        score: of a corpus, from sums of statistics, of which `values` then are those of each
            example; shape [n, k].

    Raises:
        ValueError: no values, or a confidence outside of (0, 1).
    """
    examples = np.asarray(values, dtype=np.float64)  # [n]
    if examples.ndim != (2 if score else 1) or not examples.size:
        raise ValueError(f"an interval needs one figure per example, got shape {examples.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1; 0.95 is usual")
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // examples.size)
    scores = []
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), len(examples))
        drawn = rng.integers(len(examples), size=shape)  # [resamples of this chunk, n]
        again = examples[drawn]  # [resamples of this chunk, n] or [..., n, k]
        scores.append(score(again.sum(axis=1)) if score else again.mean(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(scores), [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    score: Score = None,
) -> tuple[float, float, float]:
    """Mean of `a - b` on the same examples, with its bootstrap interval: (mean, low, high).

    With the score of a corpus, which is no mean over examples: the difference of the scores, both
    of the same examples drawn again (Koehn 2004). Pairing takes out how hard each example is, so it
    tells apart competitors whose own intervals overlap.

    Raises:
        ValueError: `a` and `b` are not of one length, or empty.
    """
    if len(a) != len(b):
        raise ValueError(f"pairs need as many figures on both sides, got {len(a)} and {len(b)}")
    ours, theirs = (np.asarray(side, dtype=np.float64) for side in (a, b))  # [n] or [n, k]
    if score is None:
        differences = ours - theirs
        low, high = bootstrap_interval(differences, confidence, resamples, seed)
        return float(differences.mean()), low, high
    width = ours.shape[1]

    def gap(sums: np.ndarray) -> np.ndarray:
        return score(sums[..., :width]) - score(sums[..., width:])

    both = np.concatenate([ours, theirs], axis=1)  # [n, 2k]
    low, high = bootstrap_interval(both, confidence, resamples, seed, gap)
    return float(gap(both.sum(axis=0))), low, high


def statistics_of(record: Mapping) -> float | list[float]:
    """What an example adds to a score: its `statistics`, where the score is one of sums."""
    return record.get("statistics") or float(record["correct"])


def score_of(
    records: Sequence[Mapping], metric: str, confidence: float = CONFIDENCE
) -> tuple[float, list[float]]:
    """The score of records, and its interval: the bootstrap's, or an exact one of equal values."""
    values = np.asarray([statistics_of(record) for record in records])  # [n] or [n, k]
    score = text_scores.OF_SUMS.get(metric)
    if score:
        return float(score(values.sum(axis=0))), [
            *bootstrap_interval(values, confidence, score=score)
        ]
    mean = float(values.mean())
    if (values == mean).all() and mean in (0.0, 1.0):
        return mean, _unanimous(mean, len(values), confidence)
    return mean, [*bootstrap_interval(values, confidence)]


def _unanimous(mean: float, count: int, confidence: float) -> list[float]:
    """The exact interval of a share that is 0 or 1 in all of `count` examples (Clopper & Pearson
    1934), where the bootstrap has nothing to draw from.
    """
    rare = 1 - ((1 - confidence) / 2) ** (1 / count)
    return [1 - rare, 1.0] if mean else [0.0, rare]


def confusion(
    labels: Iterable[str], truth: Sequence[str], predictions: Sequence[str]
) -> dict[str, list]:
    """Counts of each true label (row) predicted as each label (column).

    Raises:
        ValueError: a label or prediction is none of `labels`.
    """
    names = list(labels)
    place = {name: index for index, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), dtype=int)  # [true, predicted]
    for pair in zip(truth, predictions, strict=True):
        unknown = [name for name in pair if name not in place]
        if unknown:
            raise ValueError(f"'{unknown[0]}' is none of the labels {', '.join(names)}")
        matrix[place[pair[0]], place[pair[1]]] += 1
    return {"labels": names, "matrix": matrix.tolist()}


def comparison_key(
    rows: Iterable[Mapping], split: str, labels: Iterable[str], metric: str, normalise: str | None
) -> str:
    """What two results must share to be compared: a hash that ignores the order of rows.

    rows: examples or records, each with "id" and "label". normalise: the task's, of generated
    answers. Its `max_new_tokens` is left out: worked steps need more of them than a direct answer
    to the same question, and the two are to be compared.
    """
    examples = sorted([row["id"], row["label"]] for row in rows)
    code = [file_hash(Path(file)) for file in (__file__, text_scores.__file__)]
    return value_hash([examples, split, sorted(labels), metric, normalise, *code])


def fingerprint(comparison_key: str, prompt: dict, tokenizer_hash: str, decoding: dict) -> str:
    """A hash of everything that was asked of a model, and how; the prompt's name does not count."""
    asked = {key: prompt.get(key) for key in ("template", "answer", "shots", "shot_texts")}
    return value_hash([comparison_key, asked, tokenizer_hash, decoding])


def summarise(
    records: Sequence[Mapping],
    split: str,
    labels: Iterable[str],
    metric: str,
    prompt: dict,
    tokenizer_hash: str,
    decoding: dict,
) -> dict[str, object]:
    """What `metrics.json` says of an adapter's records.

    records: each {"id", "label", "prediction", "correct", ...}. labels: their names; none where
    answers are free text, and then there is no confusion matrix. decoding: how answers were made.

    Raises:
        ValueError: there are no records, or one has an unknown label.
    """
    names = list(labels)
    if not records:
        raise ValueError(f"no examples in split '{split}'; give the task some, or raise max_eval")
    score, interval = score_of(records, metric)
    truth = [record["label"] for record in records] if names else []
    predictions = [record["prediction"] for record in records] if names else []
    key = comparison_key(records, split, names, metric, decoding.get("normalise"))
    return {
        "metric": metric,
        "lower_is_better": metric in LOWER_IS_BETTER,
        "score": score,
        "interval": interval,
        "n": len(records),
        "confusion": confusion(names, truth, predictions),
        "comparison_key": key,
        "fingerprint": fingerprint(key, prompt, tokenizer_hash, decoding),
        "split": split,
    }


def aligned(a_records: Iterable[Mapping], b_records: Iterable[Mapping]) -> tuple[list, list]:
    """Both sides' `statistics_of` each record, in the order of their ids.

    Raises:
        ValueError: an id stands twice on one side, or on one side only.
    """
    a, b = _by_id(a_records), _by_id(b_records)
    alone = sorted(a.keys() ^ b.keys())
    if alone:
        raise ValueError(
            f"{len(alone)} examples were judged on one side only, such as {alone[0]}; "
            "run `dvc repro` to judge both on the same examples"
        )
    return [a[key] for key in sorted(a)], [b[key] for key in sorted(a)]


def _by_id(records: Iterable[Mapping]) -> dict[str, float | list[float]]:
    found: dict[str, float | list[float]] = {}
    for record in records:
        if record["id"] in found:
            raise ValueError(f"two records have the id {record['id']}; remove the double example")
        found[record["id"]] = statistics_of(record)
    return found
