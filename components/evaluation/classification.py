"""Classification of texts with an adapter: label probabilities from the scores of its method."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.lineage import read_json
from components.prompts import render, variables_of, with_shots

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def classify(
    model: "PreTrainedModel", base: Path, folder: Path, texts: Sequence[str]
) -> list[dict[str, float]]:
    """The probability of each label for each text, with the wording that `folder` was made with.

    Raises:
        ValueError: the adapter's template has more variables than one text can fill.
    """
    import math

    from transformers import AutoTokenizer

    from components.adapters import METHODS

    description = read_json(folder / "adapter.json")
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
