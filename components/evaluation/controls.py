"""What a task gives without a language model: the most frequent answer, and words counted."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation import text_controls
from components.evaluation.metrics import comparison_key, score_of
from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.reporter import Reporter

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # inverse regularisation, chosen on validation data
ITERATIONS = 1000  # lbfgs ends long before on tens of thousands of texts
WORD = r"(?u)\b\w+\b"  # scikit-learn's own pattern drops words of one letter

Rows = list[dict[str, Any]]
Control = dict[str, Any]  # its "records", each with what `score_of` reads, and what it was


def evaluate_controls(task: Path, out: Path, report: Reporter) -> dict[str, float]:
    """Judge a task's controls on the test rows of the folder `task`, into `out`.

    They see the text alone, never the prompt's worked examples. Classification: the majority label
    of the training rows, and logistic regression over TF-IDF of words and pairs of words.
    Generation: the most frequent answer, and that of the nearest training row by TF-IDF. Language
    modelling: the training rows' bytes counted alone, and in pairs.

    Raises:
        ValueError: training rows of a classification have one label only.
    """
    description = read_json(task / "task.json")
    splits = ("train", "validation", "test")
    rows = {split: list(read_jsonl(task / f"{split}.jsonl")) for split in splits}
    controls = CONTROLS[description["kind"]](description, rows, report)
    metric = description["metric"]
    same = description["normalise"] if description["kind"] == "generation" else None
    key = comparison_key(rows["test"], "test", description["labels"], metric, same)
    figures: dict[str, Any] = {}
    written: list[dict[str, Any]] = [{"id": r["id"], "label": r["label"]} for r in rows["test"]]
    for name, control in controls.items():
        records = control.pop("records")
        score, interval = score_of(records, metric)
        shared = {"metric": metric, "split": "test", "comparison_key": key, "n": len(records)}
        figures[name] = {**shared, "score": score, "interval": interval, **control}
        for line, record in zip(written, records, strict=True):
            line[name] = record["prediction"]
    write_jsonl(out / "records.jsonl", written)
    write_json(out / "metrics.json", figures)
    return {name: figures[name]["score"] for name in figures}


def _classification(
    description: Mapping[str, Any], rows: Mapping[str, Rows], report: Reporter
) -> dict[str, Control]:
    labels = Counter(row["label"] for row in rows["train"])
    if len(labels) < 2:
        raise ValueError(
            f"task '{description['name']}': its training rows have {len(labels)} labels, not 2 or "
            "more"
        )
    majority = min(labels, key=lambda label: (-labels[label], label))
    model, strength, validation_score = _fit(rows["train"], rows["validation"], report)
    guesses = [str(guess) for guess in model.predict(_texts(rows["test"]))]
    chosen = {"strength": strength, "validation_score": validation_score}
    return {
        "majority": {
            "records": _judged(rows["test"], [majority] * len(guesses)),
            "title": "majority label",
            "label": majority,
        },
        "tfidf": {"records": _judged(rows["test"], guesses), "title": "TF-IDF", **chosen},
    }


def _judged(rows: Rows, guesses: list[str]) -> Rows:
    return [
        {"prediction": guess, "correct": guess == row["label"]}
        for row, guess in zip(rows, guesses, strict=True)
    ]


CONTROLS: Mapping[str, Callable[..., dict[str, Control]]] = {
    "classification": _classification,
    "generation": text_controls.of_generation,
    "language_modelling": text_controls.of_language_modelling,
}


def _texts(rows: Rows) -> list[str]:
    return [row["text"] for row in rows]


def _fit(train: Rows, validation: Rows, report: Reporter) -> tuple["Pipeline", float, float]:
    """The model of the strength with the best accuracy on `validation`; of equals, the weakest."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    best = None
    for done, strength in enumerate(STRENGTHS, 1):
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD)
        model = make_pipeline(words, LogisticRegression(C=strength, max_iter=ITERATIONS))
        model.fit(_texts(train), [row["label"] for row in train])
        score = float(model.score(_texts(validation), [row["label"] for row in validation]))
        report.progress(done, len(STRENGTHS), f"C {strength:g}: {score:.3f} on validation")
        if best is None or score > best[2]:
            best = (model, strength, score)
    assert best is not None
    return best
