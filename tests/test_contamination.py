"""Evaluation rows that the corpus holds already: the rule, and its cost."""

import tracemalloc

import pytest

from components.evaluation.contamination import contamination, run_length
from components.lineage import read_json, read_jsonl, write_json, write_jsonl
from components.prompts import Prompt
from components.reporter import Silent
from components.tasks import Task, build_task

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def look(tmp_path, documents, rows):
    corpus, task, out = (tmp_path / name for name in ("corpus", "task", "out"))
    for folder in (corpus, task, out):
        folder.mkdir()
    count = write_jsonl(corpus / "train.jsonl", ({"text": text} for text in documents))
    write_json(corpus / "report.json", {"splits": {"train": {"rows": count}}})
    for split in ("validation", "test"):
        made = [{"id": f"{split}{n}", "text": text} for n, text in enumerate(rows)]
        write_jsonl(task / f"{split}.jsonl", made)
    contamination(corpus, {"taste": task}, out, Silent())
    found = [r["id"] for r in read_jsonl(out / "records.jsonl") if r["split"] == "test"]
    return found, read_json(out / "metrics.json")["taste"]


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([30] * 100, 13),  # long texts: the most
        ([10] * 50 + [40] * 50, 10),  # the 5th percentile
        ([3] * 10 + [20] * 90, 8),  # the least
        ([3] * 10 + [5] * 90, 5),  # short texts: their median
        ([0, 0, 0], 1),
    ],
)
def test_the_run_is_as_long_as_the_rule_says(lengths, words):
    assert run_length(lengths) == words


def test_a_run_in_common_makes_a_row_dirty(tmp_path):
    """Whatever case, punctuation and place; twelve words in common of thirteen are not enough."""
    inside = "Well: ONE two, three four (five) six seven -- eight nine ten eleven twelve Thirteen!"
    almost = LONG.replace("seven", "7")
    found, figures = look(tmp_path, ["nothing", f"x {LONG} y"], [inside, almost, LONG])
    assert figures["words"] == 13
    assert found == ["test0", "test2"]


def test_a_short_row_is_dirty_if_all_of_it_is_there(tmp_path):
    rows = [LONG, "six seven eight", "six eight", "", *[LONG] * 10]
    found, figures = look(tmp_path, ["five six seven eight nine"], rows)
    assert figures["words"] == 8
    assert found == ["test1"]


@pytest.mark.parametrize("kind", ["generation", "language_modelling"])
def test_the_template_hides_no_row(tmp_path, kind):
    """The template's words once counted as the row's: runs of them stood in no document, so that
    questions that the corpus holds word for word were called clean.
    """
    corpus, task, data, out = (tmp_path / name for name in ("corpus", "task", "data", "out"))
    for folder in (corpus, task, data, out):
        folder.mkdir()
    asked = [" ".join(f"w{number}x{n}" for n in range(10)) for number in range(20)]
    for split in ("train", "validation", "test"):
        rows = [
            {"source": f"{text} of {split}", "target": "t", "extra": {"more": ""}} for text in asked
        ]
        write_jsonl(data / f"{split}.jsonl", rows)
    template = "Answer the following question as well as you can: {{source}} {{more}} Answer:"
    answer = " {{target}}" if kind == "generation" else None
    prompt = Prompt(template=template, answer=answer)
    block = Task(dataset="data", kind=kind, prompt="ask")
    build_task(block, "taste", prompt, "ask", data, task, Silent())
    documents = [{"text": f"Some page. {text} of test! And more."} for text in asked[:15]]
    write_jsonl(corpus / "train.jsonl", [*documents, {"text": template}])
    write_json(corpus / "report.json", {"splits": {"train": {"rows": 16}}})
    contamination(corpus, {"taste": task}, out, Silent())
    figures = read_json(out / "metrics.json")["taste"]
    assert (figures["words"], figures["test"]["dirty"]) == (12, 15)
    assert {row["text"] for row in read_jsonl(task / "test.jsonl")} == {
        f"{t} of test" for t in asked
    }


def test_shares_are_of_each_split(tmp_path):
    _, figures = look(tmp_path, [LONG], [LONG, "a b c d e f g h i j k l m n"])
    expected = {"rows": 2, "dirty": 1, "share": 0.5}
    assert figures["test"] == figures["validation"] == expected


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """A hundred times the documents, no more than a tenth of a megabyte."""
    peaks = []
    for number, size in enumerate((100, 10_000)):
        folder = tmp_path / str(number)
        folder.mkdir()
        documents = (f"document {n} {LONG} {n * n}" for n in range(size))
        tracemalloc.start()
        look(folder, documents, [f"{LONG} {n}" for n in range(20)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 100_000
