"""Worked steps in GSM8K's own form, from the rows of its file to the score of what was written."""

import pytest

from components.dataset import Dataset
from components.evaluation import generation
from components.evaluation.decoding import Generated
from components.evaluation.subject import Subject
from components.evaluation.worst import by_steps
from components.ingest import ingest
from components.lineage import read_json, read_jsonl, write_jsonl
from components.prompts import Prompt
from components.reporter import Silent
from components.tasks import Task, build_task

# a row of Cobbe et al. 2021, its calculator's marks included, and others in its form
NATALIA = {
    "question": "Natalia sold clips to 48 of her friends in April, and then she sold half as many "
    "clips in May. How many clips did Natalia sell altogether in April and May?",
    "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72"
    " clips altogether in April and May.\n#### 72",
}
OTHERS = [
    {"question": f"What are {n} times 3,000 and 1?", "answer": f"{n}*3000+1.\n#### {3 * n},001"}
    for n in range(1, 80)
]
PROMPT = Prompt(template="{{source}}\n", answer="{{steps}}\n#### {{target}}", extract="####")


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory):
    """The task of docs/tasks.md over such files."""
    top = tmp_path_factory.mktemp("gsm8k")
    (top / "gsm8k").mkdir()
    write_jsonl(top / "gsm8k/train.jsonl", OTHERS)
    write_jsonl(top / "gsm8k/test.jsonl", [NATALIA])
    block = Dataset(
        path="gsm8k", format="jsonl", splits={"train": "train.jsonl", "test": "test.jsonl"},
        source="question", target="answer", steps="answer",
    )  # fmt: skip
    for name in ("data", "task"):
        (top / name).mkdir()
    ingest(block, top / "gsm8k", top / "data", Silent())
    task = Task(
        dataset="gsm8k", kind="generation", prompt="worked", normalise="number", max_new_tokens=256
    )
    build_task(task, "worked", PROMPT, "worked", top / "data", top / "task", Silent())
    return top / "task"


def judged(task, written, monkeypatch, **settings):
    """The record of the one test row, where a model with `settings` writes `written`."""
    adapter = {
        "prompt": {**PROMPT.model_dump(), "shot_texts": []},
        "settings": {"seed": 1, **settings},
    }
    monkeypatch.setattr(
        generation, "generate", lambda *_: [Generated(text, True, False) for text in written]
    )
    subject = Subject(None, None, adapter, read_json(task / "task.json"), None)
    return generation.judge(subject, list(read_jsonl(task / "test.jsonl")))[0]


def test_its_rows_become_questions_with_steps(gsm8k):
    (row,) = read_jsonl(gsm8k / "test.jsonl")
    assert row["prompt"] == f"{NATALIA['question']}\n" and row["answer"] == NATALIA["answer"]
    assert (row["label"], row["steps"]) == ("72", 2)
    assert {row["steps"] for row in read_jsonl(gsm8k / "train.jsonl")} == {1}


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("48/2 = 24 in May.\n48+24 = 72.\n#### 72", True),
        ("#### 72", True),  # a direct answer
        ("So.\n#### $72.00", True),
        ("So.\n#### 72.\nQuestion: another one\n#### 5", True),  # a base that goes on
        ("So.\n#### -72", False),
        ("So.\n#### 720", False),
        ("the answer is 72", False),  # no mark, no answer
        ("####", False),
    ],
)
def test_the_final_number_is_compared(gsm8k, monkeypatch, written, right):
    record = judged(gsm8k, [written], monkeypatch)
    assert record["correct"] == right
    assert by_steps([record], "exact_match")["2"]["score"] == right


def test_the_majority_is_of_values_and_of_those_that_came_to_one(gsm8k, monkeypatch):
    """Steps that end in nothing had a vote, as if nothing were an answer."""
    written = ["a\n#### 72", "b\n#### 71", "c\n#### 72.0", "d\n####", "e\n####", "f\n#### "]
    record = judged(gsm8k, written, monkeypatch, samples=6, temperature=0.7)
    assert record["votes"] == {"72": 2, "71": 1}
    assert record["prediction"] == "72" and record["correct"] == 1
