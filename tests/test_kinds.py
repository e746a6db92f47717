"""Mistakes in the catalogue about kinds of tasks are refused with place, value and remedy."""

import pytest

from components.catalogue import CatalogueError, parse
from tests.conftest import CATALOGUE

TEXT = CATALOGUE.format(root=".")
for block, more in {
    "datasets": "  pairs: {path: p.jsonl, format: jsonl, source: en, target: fr, steps: fr}\n",
    "prompts": (
        '  say: {template: "{{source}}:", answer: " {{steps}} #### {{target}}", extract: "####"}\n'
        '  plain: {template: "{{text}}"}\n'
    ),
    "tasks": (
        "  talk: {dataset: pairs, kind: generation, prompt: say, max_new_tokens: 40}\n"
        "  read: {dataset: tales, kind: language_modelling, prompt: plain}\n"
    ),
    "adapters": (
        "  voice: {pipeline: quickstart, task: talk, method: prompt, "
        "samples: 5, temperature: 0.7}\n"
        "  reader: {pipeline: quickstart, task: read, method: lora}\n"
    ),
    "gates": "  reading: {maximum: 2.5, baseline: reader}\n",
}.items():
    TEXT = TEXT.replace(f"\n{block}:\n", f"\n{block}:\n{more}")


def test_all_kinds_stand_in_one_catalogue():
    catalogue = parse(TEXT)
    assert [task.metric for task in catalogue.tasks.values()] == [
        "exact_match",
        "bits_per_byte",
        "accuracy",
    ]
    assert catalogue.datasets["pairs"].variables == ("source", "target", "steps")


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            "{dataset: pairs,",
            "{dataset: tales,",
            "talk:",
            "tasks.talk.dataset: a generation task needs pairs, and data set 'tales' has no "
            "'source'; data sets with pairs: pairs",
        ),
        (
            "kind: generation, prompt: say",
            "kind: generation, prompt: plain",
            "plain:",
            "prompts.plain.answer: task 'talk' is a generation: answer is a template",
        ),
        (
            "#### {{target}}",
            "#### {{targt}}",
            "say:",
            "prompts.say.answer: rows of data set 'pairs' have no 'targt'; did you mean 'target'?",
        ),
        (
            "language_modelling, prompt: plain",
            "language_modelling, prompt: sentiment",
            "answer: {positive",
            "prompts.sentiment.answer: task 'read' is judged by the template's text itself",
        ),
        (
            "kind: classification, prompt: sentiment",
            "kind: classification, prompt: plain",
            "plain:",
            "prompts.plain.answer: task 'sentiment' is a classification: give each label its "
            "words, as in {positive: ' positive', negative: ' negative'}",
        ),
        (
            "max_new_tokens: 40",
            "max_new_tokens: 64",
            "talk:",
            "tasks.talk.max_new_tokens: 64 leaves no room for a prompt in the 64 tokens of "
            "pipeline 'quickstart' with adapter 'voice'",
        ),
        (
            "task: talk, method: prompt",
            "task: sentiment, method: prompt",
            "samples: 5",
            "adapters.voice.samples: samples belongs to generated answers; task 'sentiment' is "
            "classification",
        ),
        (
            "samples: 5, temperature: 0.7",
            "samples: 5",
            "samples: 5",
            "samples 5 at temperature 0 are all the same",
        ),
        (
            "task: read, method: lora",
            "task: read, method: prompt_tuning",
            "reader:",
            "adapters.reader.method: prompt_tuning needs a prompt to stand before, and task 'read'",
        ),
        (
            "task: read, method: lora",
            "task: read, method: prompt, shots: 2",
            "reader:",
            "adapters.reader.shots: task 'read' is judged by whole texts",
        ),
        (
            "{maximum: 2.5",
            "{minimum: 0.5",
            "reading:",
            "gates.reading.minimum: bits_per_byte of task 'read' is better where it is lower; "
            "state maximum instead",
        ),
        (
            "{minimum: 0.55",
            "{maximum: 0.55",
            "{maximum: 0.55",
            "accuracy of task 'sentiment' is better where it is higher; state minimum instead",
        ),
        (
            "kind: language_modelling, prompt: plain",
            "kind: language_modelling, prompt: plain, metric: bleu",
            "read:",
            "metric 'bleu': a language_modelling task has bits_per_byte, word_perplexity",
        ),
        (
            "source: en, target: fr, steps: fr",
            "steps: fr",
            "pairs:",
            "steps belongs to pairs, which source and target name",
        ),
    ],
)
def test_mistakes_are_named(old, new, line, said):
    assert TEXT.count(old) == 1
    text = TEXT.replace(old, new)
    number = next(n for n, found in enumerate(text.splitlines(), 1) if line in found)
    with pytest.raises(CatalogueError) as refused:
        parse(text)
    assert said in str(refused.value)
    assert f"pipelines.yaml:{number}: " in str(refused.value)
