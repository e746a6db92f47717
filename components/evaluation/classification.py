"""Classification of texts with an adapter: label probabilities from the scores of its method."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation.subject import Record, Row, Subject
from components.lineage import read_json
from components.prompts import render, variables_of, with_shots

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def judge(subject: Subject, rows: Sequence[Row]) -> list[Record]:
    """A record for each row: the label of the highest score, and all scores."""
    from components.adapters.encoding import overflows

    labels, prompts = subject.adapter["labels"], subject.prompts(rows)
    longest = max(labels.values(), key=len)
    scored = subject.method.scores(subject.model, subject.tokenizer, prompts, labels)
    records = []
    for row, prompt, scores in zip(rows, prompts, scored, strict=True):
        prediction = max(scores, key=scores.__getitem__)
        cut = overflows(subject.model, subject.tokenizer, prompt, longest, free_text=False)
        records.append(
            {
                "id": row["id"],
                "label": row["label"],
                "prediction": prediction,
                "correct": prediction == row["label"],
                "scores": scores,
                "truncated": cut,
            }
        )
    return records


def decoding(subject: Subject) -> dict[str, Any]:
    """How labels were chosen, for fingerprints."""
    return {"score": subject.method.scored}


def classify(
    model: "PreTrainedModel", base: Path, folder: Path, texts: Sequence[str]
) -> list[dict[str, float]]:
    """The probability of each label for each text, with the wording that `folder` was made with.

    Raises:
        ValueError: the adapter has no labels, or its template more variables than one text can
            fill.
    """
    import math

    from transformers import AutoTokenizer

    from components.adapters import METHODS

    description = read_json(folder / "adapter.json")
    if not description["labels"]:
        raise ValueError(
            f"adapter {description['name']} writes texts and has no labels to choose from; ask "
            f"/v1/completions, with template {description['prompt']['name']}"
        )
    template = description["prompt"]["template"]
    variables = variables_of(template)
    if len(variables) != 1:
        raise ValueError(
            f"adapter {description['name']} needs {', '.join(variables)}; classification takes one "
            "text"
        )
    shots = description["prompt"]["shot_texts"]
    prompts = [with_shots(shots, render(template, {variables[0]: text})) for text in texts]
    tokenizer = AutoTokenizer.from_pretrained(base)
    found = []
    method = METHODS[description["method"]]
    for scores in method.scores(model, tokenizer, prompts, description["labels"]):
        weights = {label: math.exp(score) for label, score in scores.items()}
        total = sum(weights.values())
        found.append({label: weight / total for label, weight in weights.items()})
    return found
