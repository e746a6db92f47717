"""Controls of tasks whose answers are texts: a frequent answer, a near one, counted bytes."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from components.evaluation.text_scores import judge_texts
from components.reporter import Reporter

CHUNK = 256  # test rows compared with all training rows at once
BYTES = 256

Rows = list[dict[str, Any]]


def of_generation(
    description: Mapping[str, Any], rows: Mapping[str, Rows], report: Reporter
) -> dict[str, dict[str, Any]]:
    """`majority`: the most frequent final answer of the training rows, of equals the first by name.
    `tfidf`: that of the training row with the nearest text, by the cosine of TF-IDF over words.
    """
    counts = Counter(row["label"] for row in rows["train"])
    majority = min(counts, key=lambda answer: (-counts[answer], answer))
    near = _nearest(rows["train"], rows["test"], report)
    guesses = {"majority": [majority] * len(near), "tfidf": near}
    titles = {"majority": "most frequent answer", "tfidf": "nearest neighbour"}
    asked = description["metric"], description["normalise"]
    references = [row["label"] for row in rows["test"]]
    found = {}
    for name, predictions in guesses.items():
        judged = judge_texts(asked[0], predictions, references, asked[1])
        records = [s | {"prediction": p} for s, p in zip(judged, predictions, strict=True)]
        found[name] = {"records": records, "title": titles[name]}
    found["majority"]["label"] = majority
    return found


def _nearest(train: Rows, test: Rows, report: Reporter) -> list[str]:
    """The answer of each test row's nearest training row; of equals the first."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    known = words.fit_transform([row["text"] for row in train])  # (training rows, words)
    asked = words.transform([row["text"] for row in test])
    answers = []
    for start in range(0, len(test), CHUNK):
        likeness = asked[start : start + CHUNK] @ known.T
        answers += [train[n]["label"] for n in np.asarray(likeness.argmax(axis=1)).ravel()]
        report.progress(len(answers), len(test), "nearest neighbours")
    return answers


def of_language_modelling(
    description: Mapping[str, Any], rows: Mapping[str, Rows], report: Reporter
) -> dict[str, dict[str, Any]]:
    """`bytes`: each byte by its share of the training rows, one added to each count, so that none
    is impossible. `byte_pairs`: by what precedes it, interpolated with that (Witten & Bell 1991).

    A text ends with byte 0, which no other part of it has.
    """
    pairs = np.zeros((BYTES, BYTES))  # counts of [byte before, byte]
    for row in rows["train"]:
        np.add.at(pairs, _bytes(row["answer"]), 1)
    single = pairs.sum(0) + 1
    share = single / single.sum()  # [byte]
    kinds = np.maximum((pairs > 0).sum(1, keepdims=True), 1)  # of bytes that follow one
    after = (pairs + kinds * share) / (pairs.sum(1, keepdims=True) + kinds)  # [byte before, byte]
    found = {}
    for name, title, shares in (
        ("bytes", "bytes counted", np.tile(share, (BYTES, 1))),
        ("byte_pairs", "pairs of bytes counted", after),
    ):
        nats = -np.log(shares)
        records = [_predicted(row["answer"], nats) for row in rows["test"]]
        found[name] = {"records": records, "title": title}
    report.progress(1, 1)
    return found


def _bytes(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The bytes before, and the bytes themselves, with the end of the document at both ends."""
    data = np.frombuffer(b"\0" + text.encode().replace(b"\0", b"") + b"\0", dtype=np.uint8)
    return data[:-1], data[1:]


def _predicted(text: str, nats: np.ndarray) -> dict[str, Any]:
    value, size = float(nats[_bytes(text)].sum()), len(text.encode())
    statistics = [round(value, 4), float(size), float(len(text.split()))]
    return {"prediction": "", "correct": math.exp(-value / size), "statistics": statistics}
