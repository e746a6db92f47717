"""Classification of texts with an adapter: label probabilities from the scores of its method.

A prompt design may divide what it favours out of them: see `calibrated`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation.subject import Record, Row, Subject, described
from components.lineage import read_json
from components.prompts import render, variables_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Scores = dict[str, float]


def judge(subject: Subject, rows: Sequence[Row]) -> list[Record]:
    """A record for each row: the label of the highest score, and all scores."""
    from components.adapters.encoding import overflows

    labels = subject.adapter["labels"].values()
    answers = labels if subject.method.generates else [""]  # a head reads none
    scored = score_prompts(subject, [row["prompt"] for row in rows])
    records = []
    for row, prompt, scores in zip(rows, subject.prompts(rows), scored, strict=True):
        prediction = max(scores, key=scores.__getitem__)
        cut = any(
            overflows(subject.model, subject.tokenizer, prompt, answer, free_text=False)
            for answer in answers
        )
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
    empty = subject.adapter["settings"].get("content_free")
    return {"score": subject.method.scored} | ({"content_free": empty} if empty else {})


def score_prompts(subject: Subject, prompts: Sequence[str]) -> list[Scores]:
    """The labels' scores behind each of `prompts`, rendered, without worked examples."""
    template = subject.adapter["prompt"]["template"]
    empty = subject.adapter["settings"].get("content_free", ())
    blanks = [render(template, dict.fromkeys(variables_of(template), text)) for text in empty]
    asked = subject.prompts([{"prompt": prompt} for prompt in [*prompts, *blanks]])
    labels = subject.adapter["labels"]
    scored = subject.method.scores(subject.model, subject.tokenizer, asked, labels)
    return calibrated(scored[: len(prompts)], scored[len(prompts) :])


def calibrated(scored: Sequence[Scores], blank: Sequence[Scores]) -> list[Scores]:
    """`scored` less what a prompt favours: the log-probabilities of labels for inputs that say
    nothing, `blank` (contextual calibration, Zhao et al. 2021, section 5: W = diag(p_cf)^-1,
    b = 0). None: as they are.

    p_cf is the mean of the inputs' probabilities. Those of the result are p / p_cf over their sum,
    where the paper has another softmax, which ranks labels the same but keeps their probabilities
    near each other.
    """
    if not blank:
        return list(scored)
    each = [probabilities(scores) for scores in blank]
    favour = {label: math.log(sum(p[label] for p in each) / len(each)) for label in blank[0]}
    return [
        {label: round(score - favour[label], 6) for label, score in row.items()} for row in scored
    ]


def probabilities(scores: Scores) -> dict[str, float]:
    """The labels' probabilities: the softmax of their scores."""
    largest = max(scores.values())
    weights = {label: math.exp(score - largest) for label, score in scores.items()}
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def classify(
    model: "PreTrainedModel", base: Path, folder: Path, texts: Sequence[str]
) -> list[dict[str, float]]:
    """The probability of each label for each text, with the wording that `folder` was made with.

    Raises:
        ValueError: the adapter has no labels, or its template more variables than one text can
            fill.
    """
    from transformers import AutoTokenizer

    description = read_json(folder / "adapter.json")
    tokenizer = AutoTokenizer.from_pretrained(base)
    return label_probabilities(described(model, tokenizer, description), texts)


def label_probabilities(subject: Subject, texts: Sequence[str]) -> list[dict[str, float]]:
    """As `classify`, of a model that is in memory."""
    adapter = subject.adapter
    if not adapter["labels"]:
        raise ValueError(
            f"adapter {adapter['name']} writes texts and has no labels to choose from; ask "
            f"/v1/completions, with template {adapter['prompt']['name']}"
        )
    template = adapter["prompt"]["template"]
    variables = variables_of(template)
    if len(variables) != 1:
        raise ValueError(
            f"adapter {adapter['name']} needs {', '.join(variables)}; classification takes one text"
        )
    prompts = [render(template, {variables[0]: text}) for text in texts]
    return [probabilities(scores) for scores in score_prompts(subject, prompts)]
