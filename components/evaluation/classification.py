"""Classification by the likelihood of the label words, normalised per token.

The score of a label is the mean log-probability of its answer's tokens after the prompt (Brown et
al. 2020, section 2.4), so that a label of more tokens is at no disadvantage.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation.subject import Record, Row, Subject
from components.lineage import read_json
from components.prompts import render, variables_of, with_shots

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS = 64  # of a batch


def judge(subject: Subject, rows: Sequence[Row]) -> list[Record]:
    """A record for each row: the label of the highest score, and all scores."""
    from components.adapters.encoding import overflows

    labels, prompts = subject.adapter["labels"], subject.prompts(rows)
    longest = max(labels.values(), key=len)
    scored = score_labels(subject.model, subject.tokenizer, prompts, labels)
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
    return {"score": "mean log-probability per answer token"}


def score_labels(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    labels: Mapping[str, str],
) -> list[dict[str, float]]:
    """The mean log-probability per token of each label's answer, in nats, for each prompt."""
    import torch

    from components.adapters.encoding import answer_losses, encode

    scores: list[dict[str, float]] = [{} for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    with torch.no_grad():
        for start in range(0, len(order), ROWS):
            pairs = [(n, label) for n in order[start : start + ROWS] for label in labels]
            texts, answers = [prompts[n] for n, _ in pairs], [labels[label] for _, label in pairs]
            batch = encode(model, tokenizer, texts, answers)
            losses = answer_losses(model, batch).split(batch.lengths)
            for (number, label), each in zip(pairs, losses, strict=True):
                scores[number][label] = round(-float(each.mean()), 6)
    return scores


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
    for scores in score_labels(model, tokenizer, prompts, description["labels"]):
        weights = {label: math.exp(score) for label, score in scores.items()}
        total = sum(weights.values())
        found.append({label: weight / total for label, weight in weights.items()})
    return found
