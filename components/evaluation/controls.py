"""What a task gives without a language model: the most frequent label, and words counted."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from components.evaluation.metrics import bootstrap_interval, comparison_key
from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.reporter import Reporter

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # inverse regularisation, chosen on validation data
ITERATIONS = 1000  # lbfgs ends long before on tens of thousands of texts
WORD = r"(?u)\b\w+\b"  # scikit-learn's own pattern drops words of one letter

Rows = list[dict[str, str]]


def evaluate_controls(task: Path, out: Path, report: Reporter) -> dict[str, float]:
    """Judge two controls on the test rows of the folder `task`, into `out`.

    They see the text alone, never the prompt: the majority label of the training rows, and
    logistic regression over TF-IDF of words and pairs of words.

    Raises:
        ValueError: the task is no classification, or its training rows have one label only.
    """
    description = read_json(task / "task.json")
    name, kind = description["name"], description["kind"]
    if kind != "classification":
        raise ValueError(f"task '{name}' is of kind '{kind}'; controls need kind: classification")
    splits = ("train", "validation", "test")
    train, validation, test = (list(read_jsonl(task / f"{split}.jsonl")) for split in splits)
    labels = Counter(row["label"] for row in train)
    if len(labels) < 2:
        raise ValueError(
            f"task '{name}': its training rows have {len(labels)} labels, not 2 or more"
        )
    majority = min(labels, key=lambda label: (-labels[label], label))
    model, strength, validation_score = _fit(train, validation, report)
    guesses = [str(guess) for guess in model.predict(_texts(test))]
    records = [
        {"id": row["id"], "label": row["label"], "majority": majority, "tfidf": guess}
        for row, guess in zip(test, guesses, strict=True)
    ]
    write_jsonl(out / "records.jsonl", records)
    metric = description["metric"]
    key = comparison_key(test, "test", description["labels"], metric)
    shared = {"metric": metric, "split": "test", "comparison_key": key}
    figures = {
        "majority": {**shared, **_judge(records, "majority"), "label": majority},
        "tfidf": {
            **shared,
            **_judge(records, "tfidf"),
            "strength": strength,
            "validation_score": validation_score,
        },
    }
    write_json(out / "metrics.json", figures)
    return {control: figures[control]["score"] for control in figures}


def _texts(rows: Rows) -> list[str]:
    return [row["text"] for row in rows]


def _judge(records: Rows, control: str) -> dict[str, object]:
    correct = [float(record[control] == record["label"]) for record in records]
    interval = list(bootstrap_interval(correct))
    return {"score": sum(correct) / len(correct), "interval": interval, "n": len(correct)}


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
