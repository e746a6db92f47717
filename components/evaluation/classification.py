"""Classification by the likelihood of the label words, normalised per token.

The score of a label is the mean log-probability of its answer's tokens after the prompt (Brown et
al. 2020, section 2.4), so that a label of more tokens is at no disadvantage. A prompt design may
divide what it favours out of it: see `calibrated`.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.lineage import read_json
from components.prompts import render, variables_of, with_shots

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Scores = dict[str, float]


def score_labels(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    labels: Mapping[str, str],
) -> list[Scores]:
    """The mean log-probability per token of each label's answer, in nats, for each prompt."""
    from components.adapters.likelihood import score_answers

    pairs = [(prompt, label) for prompt in prompts for label in labels]
    answers = [labels[label] for _, label in pairs]
    scored = score_answers(model, tokenizer, [prompt for prompt, _ in pairs], answers)
    means = [round(sum(each.logprobs) / len(each.logprobs), 6) for each in scored]
    size = len(labels)
    return [
        dict(zip(labels, means[start : start + size], strict=True))
        for start in range(0, len(means), size)
    ]


def score_worded(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    description: Mapping,
    prompts: Sequence[str],
    wording: Mapping | None = None,
) -> list[Scores]:
    """The scores of `prompts` as the adapter of `description` (adapter.json) is asked.

    prompts: rendered, without worked examples. wording: "template" and "shot_texts" other than the
    adapter's own.
    """
    wording = wording or description["prompt"]
    template = wording["template"]
    empty = description["settings"].get("content_free", ())
    blanks = [render(template, dict.fromkeys(variables_of(template), text)) for text in empty]
    asked = [with_shots(wording["shot_texts"], prompt) for prompt in [*prompts, *blanks]]
    scored = score_labels(model, tokenizer, asked, description["labels"])
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


def judge(rows: Sequence[Mapping], scored: Sequence[Scores]) -> list[dict]:
    """A record for each of a task's rows: its label, and what was predicted."""
    records = []
    for row, scores in zip(rows, scored, strict=True):
        prediction = max(scores, key=scores.__getitem__)
        right = prediction == row["label"]
        record = {"id": row["id"], "label": row["label"], "prediction": prediction}
        records.append({**record, "correct": right, "scores": scores})
    return records


def accuracy(records: Sequence[Mapping]) -> float:
    """The share of `records` that are correct."""
    return sum(record["correct"] for record in records) / len(records)


def classify(
    model: "PreTrainedModel", base: Path, folder: Path, texts: Sequence[str]
) -> list[dict[str, float]]:
    """The probability of each label for each text, with the wording that `folder` was made with.

    Raises:
        ValueError: the adapter's template has more variables than one text can fill.
    """
    from transformers import AutoTokenizer

    description = read_json(folder / "adapter.json")
    template = description["prompt"]["template"]
    variables = variables_of(template)
    if len(variables) != 1:
        raise ValueError(
            f"adapter {description['name']} needs {', '.join(variables)}; classification takes one "
            "text"
        )
    prompts = [render(template, {variables[0]: text}) for text in texts]
    tokenizer = AutoTokenizer.from_pretrained(base)
    scored = score_worded(model, tokenizer, description, prompts)
    return [probabilities(scores) for scores in scored]
