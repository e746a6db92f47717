"""Tasks of every kind: what rows become of which data, and what is refused."""

from hashlib import sha256
from pathlib import Path

import pytest
from pydantic import ValidationError

from components import world
from components.dataset import Dataset
from components.ingest import ingest
from components.lineage import read_json, read_jsonl, write_jsonl
from components.prompts import Prompt, find_answer
from components.reporter import Silent
from components.splits import document
from components.tasks import Task, build_task

WORLD = Path(world.__file__)
DIRECT = Prompt(template="{{source}}\n", answer="#### {{target}}", extract="####")
WORKED = Prompt(template="{{source}}\n", answer="{{steps}}\n#### {{target}}", extract="####")
GSM8K = [  # in its form, the mark of Cobbe et al. 2021 before the result
    {"question": f"Ada has {n} pens and buys {n}.", "answer": f"{n}+{n}={2 * n}\nSo.\n#### {2 * n}"}
    for n in range(60)
]


def data(folder, block, path=WORLD):
    folder.mkdir()
    ingest(block, path, folder, Silent())
    return folder


def stories(folder, kind="story", size=400, **more):
    pairs = {"source": "question", "target": "answer", "steps": "steps", **more}
    block = Dataset(path="w", format="world", kinds=[kind], size=size, seed=4, **pairs)
    return data(folder, block)


def rendered(folder, dataset, prompt, **settings):
    folder.mkdir()
    settings = {"kind": "generation", "dataset": "d", "prompt": "p", **settings}
    build_task(Task(**settings), folder.name, prompt, "p", dataset, folder, Silent())
    return folder


def rows_of(folder, split="test"):
    return list(read_jsonl(folder / f"{split}.jsonl"))


def test_the_default_world_is_what_it_was():
    """Columns and a kind were added for worked steps; a changed text would retrain every base."""
    texts = "\0".join(
        f"{r['text']}{r['logprob']}{r['combination']}" for r in world.documents(3000, 1)
    )
    assert sha256(texts.encode()).hexdigest() == (
        "5f2010cd0df9fd52c86f76c996bba4aa998162a525fb76f95137ae7aaff02be3"
    )


@pytest.mark.parametrize("kind", ["story", "arithmetic"])
def test_worked_steps_lead_to_the_answer(kind):
    for row in world.documents(300, 2, [kind]):
        held = int(row["question"].split(" has ")[1].split()[0])
        for step in row["steps"].splitlines():
            left, sign, right, _, result = step.split()
            assert int(left) == held
            held = int(left) + int(right) if sign == "+" else int(left) - int(right)
            assert int(result) == held >= 0
        assert int(row["answer"]) == held
        assert row["text"].startswith(row["question"])
        assert (row["steps"].splitlines()[0] in row["text"]) == row["worked"]


def test_steps_of_the_world_and_of_gsm8k_become_columns(tmp_path):
    row = rows_of(stories(tmp_path / "world"))[0]
    assert set(row) == {"source", "target", "steps"}
    write_jsonl(tmp_path / "gsm8k.jsonl", GSM8K)
    pairs = {"source": "question", "target": "answer", "steps": "answer"}
    block = Dataset(path="g", format="jsonl", **pairs)
    row = rows_of(data(tmp_path / "gsm8k", block, tmp_path / "gsm8k.jsonl"), "train")[0]
    assert row["steps"].endswith("\nSo.") and row["target"].isdigit() and "#" not in row["steps"]
    assert document(row) == f"{row['source']}\n{row['steps']}\n#### {row['target']}"


def test_an_answer_without_its_mark_is_refused_by_row(tmp_path):
    write_jsonl(tmp_path / "g.jsonl", [*GSM8K, {"question": "Why?", "answer": "Because."}])
    block = Dataset(path="g", format="jsonl", source="question", target="answer", steps="answer")
    with pytest.raises(ValueError, match=r"g\.jsonl:61: no steps, '####' and answer .*Because"):
        data(tmp_path / "d", block, tmp_path / "g.jsonl")


def test_extra_columns_may_be_empty_and_tell_rows_apart(tmp_path):
    rows = [
        {"instruction": "Name it.", "input": f"thing {n}" if n % 2 else "", "output": f"name {n}"}
        for n in range(300)
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    pairs = {"source": "instruction", "target": "output", "extra": ["input"]}
    found = data(tmp_path / "d", Dataset(path="a", format="jsonl", **pairs), tmp_path / "a.jsonl")
    report = read_json(found / "report.json")
    held_out = {split: counts["rows"] for split, counts in report["splits"].items()}
    assert report["leaks"] == 0 and min(held_out.values()) > 3  # one instruction, many questions
    prompt = Prompt(template="{{source}} {{input}}:", answer=" {{target}}")
    task = rendered(tmp_path / "t", found, prompt)
    prompts = {row["prompt"] for row in rows_of(task, "train")}
    assert any("thing" in text for text in prompts)
    with pytest.raises(ValueError, match="extra: 'steps' is the name of a pair's own part"):
        Dataset(path="a", format="jsonl", **pairs | {"extra": ["steps"]})


PREFERRED = [
    {"prompt": f"Is {n} odd?", "chosen": ("no", "yes")[n % 2], "rejected": f"maybe {n}"}
    for n in range(200)
]
PREFERENCES = {"source": "prompt", "target": "chosen", "rejected": "rejected"}  # as trl has them


def test_preferences_are_rendered_in_the_words_of_the_answer(tmp_path):
    more = [PREFERRED[0] | {"rejected": "who knows"}]  # of one question two pairs
    write_jsonl(tmp_path / "p.jsonl", [*PREFERRED, *more])
    block = Dataset(path="p", format="jsonl", **PREFERENCES)
    found = data(tmp_path / "d", block, tmp_path / "p.jsonl")
    row = rows_of(found)[0]
    assert document(row) == f"{row['source']}\n{row['target']}"  # a corpus learns no rejected one
    prompt = Prompt(template="{{source}}", answer=" I say {{target}}.", extract="say (.*)[.]")
    task = rendered(tmp_path / "t", found, prompt)
    rows = [row for split in ("train", "validation", "test") for row in rows_of(task, split)]
    assert len(rows) == len({row["id"] for row in rows}) == 201
    for row in rows:
        assert row["answer"] == f" I say {row['label']}."
        assert row["rejected"].startswith(" I say ") and row["rejected"] != row["answer"]
        assert "rejected" not in row["columns"] and row["text"] == row["prompt"]
    plain = Dataset(path="p", format="jsonl", source="prompt", target="chosen")
    ids = rows_of(
        rendered(tmp_path / "u", data(tmp_path / "e", plain, tmp_path / "p.jsonl"), prompt)
    )
    assert all("rejected" not in row for row in ids)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"rejected": None},
            r"p\.jsonl:201: no value in column 'rejected'; the row has chosen, pr",
        ),
        ({"rejected": " "}, r"p\.jsonl:201: column 'rejected' is empty"),
        ({"rejected": "no "}, r"p\.jsonl:201: columns 'chosen' and 'rejected' both hold 'no'"),
        ({"rejected": ["no"]}, r"p\.jsonl:201: column 'rejected' holds .* which is no text"),
    ],
)
def test_a_pair_that_prefers_nothing_is_refused_by_file_and_row(tmp_path, wrong, said):
    write_jsonl(tmp_path / "p.jsonl", [*PREFERRED, PREFERRED[0] | wrong])
    with pytest.raises(ValueError, match=said):
        data(tmp_path / "d", Dataset(path="p", format="jsonl", **PREFERENCES), tmp_path / "p.jsonl")


def test_direct_and_worked_answers_are_of_the_same_examples(tmp_path):
    """Or a chain of thought could not be compared with a direct answer."""
    found = stories(tmp_path / "stories")
    direct, worked = (
        rows_of(rendered(tmp_path / name, found, prompt))
        for name, prompt in (("direct", DIRECT), ("worked", WORKED))
    )
    assert [(r["id"], r["label"]) for r in direct] == [(r["id"], r["label"]) for r in worked]
    for one, two in zip(direct, worked, strict=True):
        assert one["answer"] == f"#### {one['label']}"
        assert two["answer"].endswith(f"\n{one['answer']}")
        assert two["steps"] == two["answer"].count(" = ") == one["steps"]


def test_arithmetic_is_rendered_as_the_corpus_says_it(tmp_path):
    found = stories(tmp_path / "sums", "arithmetic", extra=["who"])
    answer = ", {{steps}}, so now {{who}} has {{target}}"
    prompt = Prompt(template="{{source}}", answer=answer, extract=r"now s?he has (?P<answer>\d+)")
    texts = {row["text"] for row in world.documents(400, 4, ["arithmetic"]) if row["worked"]}
    rows = rows_of(rendered(tmp_path / "t", found, prompt), "train")
    said = [row["prompt"] + row["answer"] for row in rows]
    assert sum(any(text.startswith(part) for text in texts) for part in said) >= len(texts) * 0.8
    assert all(row["label"].isdigit() and row["steps"] == 1 for row in rows)


def test_a_row_whose_answer_the_pattern_misses_is_refused(tmp_path):
    prompt = Prompt(template="{{source}}", answer=" {{target}}", extract="####")
    with pytest.raises(ValueError, match=r"data set stories: .*'####' finds no answer in ' \d+'"):
        rendered(tmp_path / "t", stories(tmp_path / "stories"), prompt)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (None, " as it is \n", "as it is"),
        ("####", "1 + 2 = 3\n#### 3\nmore", "3"),
        (r"has (\d+)", "so she has 12 eggs", "12"),
        (r"(she|he) has (?P<answer>\d+)", "so he has 12 eggs and he has 4", "12"),
        ("####", "nothing", None),
    ],
)
def test_final_answers_are_found(pattern, text, found):
    assert find_answer(pattern, text) == found


def test_language_models_are_asked_for_the_text_itself(tmp_path):
    block = Dataset(path="w", format="world", kinds=["bank"], size=300, seed=1)
    found = data(tmp_path / "d", block)
    prompt, asked = Prompt(template="{{text}}"), {"kind": "language_modelling", "max_eval": 5}
    task = rendered(tmp_path / "t", found, prompt, **asked)
    rows = rows_of(task)
    assert len(rows) == 5 and all(row["prompt"] == "" == row["label"] for row in rows)
    assert all(row["answer"] == row["text"] for row in rows)
    described = read_json(task / "task.json")
    assert (described["metric"], described["labels"]) == ("bits_per_byte", {})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "generation", "metric": "accuracy"}, "a generation task has exact_match, f1"),
        ({"kind": "classification", "max_new_tokens": 4}, "belongs to kind: generation"),
        ({"kind": "generation", "metric": "bleu", "normalise": "none"}, "not to bleu"),
    ],
)
def test_tasks_refuse_what_their_kind_has_not(settings, said):
    with pytest.raises(ValidationError, match=said):
        Task(dataset="d", prompt="p", **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"answer": 3}, "3 is no text"),
        ({"answer": " always"}, "always the same"),
        ({"answer": " {{text}}", "extract": "(("}, "is no pattern"),
        ({"answer": {"a": "x", "b": "y"}, "stop": ["."]}, "stop belongs to a generated answer"),
        ({"answer": " {{text}}", "stop": [""]}, "stop holds an empty text"),
    ],
)
def test_prompts_refuse_what_cannot_be_answered(settings, said):
    with pytest.raises(ValidationError, match=said):
        Prompt(template="{{text}}", **settings)
