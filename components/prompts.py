"""Prompts: a template, the answers to it, and worked examples before it.

A template holds `{{variable}}`, as in MLflow's prompt registry. It ends right before the answer,
so an answer begins with the space that follows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from pydantic import Field, field_validator, model_validator

from components.block import Block
from components.lineage import text_hash

VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
SHOT_BORDER = "\n\n"  # between worked examples, as in Brown et al. 2020, section 2.1
GROUP = "answer"  # of an `extract` pattern


class Prompt(Block):
    """A wording. answer: what follows the template. shots: worked examples before it.

    The answer of a classification is a text for each label, that of a generation a template of its
    own, and a language model is asked for none: it is judged by the template's text itself.
    stop: texts at which a generation ends, beside the end of the document. extract: the pattern
    that finds the final answer in what was generated, see `find_answer`. paraphrases: other
    templates, on which an evaluation tries how much the wording matters.
    """

    template: str = Field(min_length=1)
    answer: dict[str, str] | str | None = None
    shots: int = Field(default=0, ge=0)
    stop: list[str] = Field(default_factory=list)
    extract: str | None = None
    paraphrases: list[str] = Field(default_factory=list)

    @field_validator("template")
    @classmethod
    def _has_variable(cls, template: str) -> str:
        if not VARIABLE.search(template):
            raise ValueError("the template has no {{variable}}, so every prompt would be the same")
        return template

    @field_validator("paraphrases")
    @classmethod
    def _have_variables(cls, paraphrases: list[str]) -> list[str]:
        for template in paraphrases:
            if not VARIABLE.search(template):
                raise ValueError(f"the paraphrase {template!r} has no {{{{variable}}}}")
        return paraphrases

    @field_validator("answer", mode="before")
    @classmethod
    def _is_of_text(cls, answer: Any) -> Any:
        """Said here: pydantic would name both forms, and neither by its key."""
        texts = answer if isinstance(answer, dict) else {"": answer}
        wrong = [value for pair in texts.items() for value in pair if not isinstance(value, str)]
        if answer is not None and wrong:
            raise ValueError(
                f"{wrong[0]!r} is no text; answer is a text for each label, or a template such as "
                "' {{target}}'"
            )
        return answer

    @model_validator(mode="after")
    def _answers_differ(self) -> "Prompt":
        if isinstance(self.answer, str) and not VARIABLE.search(self.answer):
            raise ValueError(f"answer {self.answer!r} has no {{{{variable}}}}: always the same")
        if not isinstance(self.answer, dict):
            return self
        if len(self.answer) < 2:
            raise ValueError("an answer for each of two labels or more is needed")
        if len(set(self.answer.values())) < len(self.answer) or "" in self.answer.values():
            raise ValueError("the labels' answers must differ from each other and not be empty")
        return self

    @model_validator(mode="after")
    def _belongs_to_generation(self) -> "Prompt":
        for key in ("stop", "extract"):
            if getattr(self, key) and not isinstance(self.answer, str):
                raise ValueError(f"{key} belongs to a generated answer, as in ' {{{{target}}}}'")
        if "" in self.stop:
            raise ValueError("stop holds an empty text, at which nothing would ever begin")
        try:
            re.compile(self.extract or "")
        except re.error as error:
            raise ValueError(f"extract {self.extract!r} is no pattern: {error}") from None
        return self

    @property
    def labels(self) -> dict[str, str]:
        """The answer of each label; none where answers are free text."""
        return self.answer if isinstance(self.answer, dict) else {}

    @property
    def sha(self) -> str:
        """A hash of the wording: template and answers."""
        free = [self.answer] if isinstance(self.answer, str) else []
        return text_hash(
            self.template, *free, *(f"{k}={v}" for k, v in sorted(self.labels.items()))
        )


def find_answer(pattern: str | None, text: str) -> str | None:
    """The final answer in a generated text, without surrounding space; None where there is none.

    pattern: its first match counts: the group `answer`, else its first group, else what stands
    behind the match on the same line (`####` is GSM8K's form). Without a pattern, all of `text`.
    """
    if pattern is None:
        return text.strip()
    found = re.search(pattern, text)
    if found is None:
        return None
    if GROUP in found.groupdict():
        return (found[GROUP] or "").strip()
    if found.re.groups:
        return (found[1] or "").strip()
    return text[found.end() :].partition("\n")[0].strip()


def variables_of(template: str) -> list[str]:
    """The names of a template's variables, each once, in order."""
    return list(dict.fromkeys(VARIABLE.findall(template)))


def render(template: str, variables: Mapping[str, str]) -> str:
    """Put `variables` into `template`; what they hold is not searched for variables again.

    Raises:
        ValueError: a variable is missing, or one is given that the template has not.
    """
    wanted = variables_of(template)
    missing = [name for name in wanted if name not in variables]
    unknown = [name for name in variables if name not in wanted]
    if missing or unknown:
        raise ValueError(
            f"template variables are {', '.join(wanted)}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
        )
    return VARIABLE.sub(lambda match: str(variables[match[1]]), template)


def with_shots(shot_texts: Sequence[str], prompt: str) -> str:
    """`prompt` after worked examples."""
    return SHOT_BORDER.join([*shot_texts, prompt])


def worked(row: Mapping[str, str]) -> str:
    """`row` of a task as a worked example."""
    return row["prompt"] + row["answer"]


def choose_shots(rows: Iterable[Mapping[str, str]], count: int, seed: int) -> list[str]:
    """`count` worked examples drawn from training rows, the labels taking turns while they last.

    rows: of a task's `train.jsonl`.

    Raises:
        ValueError: there are not enough rows.
    """
    if count == 0:
        return []
    random = Random(seed)
    by_label: dict[str, list[str]] = {}
    for row in rows:
        by_label.setdefault(row["label"], []).append(worked(row))
    labels = sorted(by_label)
    random.shuffle(labels)
    chosen = []
    for turn in range(count):
        order = [by_label[labels[(turn + later) % len(labels)]] for later in range(len(labels))]
        left = next((rows for rows in order if rows), None)
        if left is None:
            raise ValueError(f"{count} shots asked for, the training rows give only {turn}")
        chosen.append(left.pop(random.randrange(len(left))))
    return chosen
