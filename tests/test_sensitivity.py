"""Scores over paraphrases of a prompt and orders of its worked examples."""

import pytest

from components.adapters.prompt import PromptDesign
from components.catalogue import CatalogueError, parse
from components.evaluation import evaluate_adapter
from components.evaluation.sensitivity import sensitivity, spread
from components.lineage import read_json, read_jsonl
from components.prompts import Prompt
from components.reporter import Silent
from components.tasks import Task, build_task
from tests.conftest import CATALOGUE
from tests.tiny_models import train

PARAPHRASES = ["{{text}} all in all it is", "of this : {{text}} i say"]


@pytest.fixture
def task(folders, tmp_path):
    """The tiny task with two paraphrases."""
    answer = {"good": " good", "bad": " bad"}
    prompt = Prompt(template="{{text}} it was", answer=answer, paraphrases=PARAPHRASES)
    block = Task(dataset="data", kind="classification", prompt="ask")
    out = tmp_path / "task"
    out.mkdir()
    build_task(block, "taste", prompt, "ask", folders["data"], out, Silent())
    return out


def adapter(folders, task, folder, **settings):
    folder.mkdir()
    block = PromptDesign(pipeline="tiny", task="taste", method="prompt", seed=1, **settings)
    return train(block, task, folders["base"], folder)


def test_an_evaluation_keeps_the_spread(folders, task, tmp_path):
    folder = adapter(folders, task, tmp_path / "few", shots=2, orders=2)
    out = tmp_path / "out"
    out.mkdir()
    evaluate_adapter(folder, task, folders["base"], out, Silent())
    own = read_json(out / "metrics.json")["validation_score"]
    found = read_json(out / "sensitivity.json")
    assert found.keys() == {"paraphrases", "orders"}
    templates = [one["template"] for one in found["paraphrases"]["variants"]]
    assert templates == ["{{text}} it was", *PARAPHRASES]
    assert [one["order"] for one in found["orders"]["variants"]] == [[0, 1], [1, 0]]
    for kind in found.values():
        scores = [one["score"] for one in kind["variants"]]
        assert scores[0] == own
        assert (kind["min"]["score"], kind["max"]["score"]) == (min(scores), max(scores))


def test_each_variant_is_asked_in_its_own_words(folders, task, tmp_path):
    """The shots of a paraphrase are worded like it, and are the same examples."""
    folder = adapter(folders, task, tmp_path / "few", shots=3, orders=4)
    description = read_json(folder / "adapter.json")
    own = description["prompt"]["shot_texts"]
    asked = []
    rows = list(read_jsonl(task / "validation.jsonl"))
    sensitivity(
        description, task, rows, 0.5, lambda given, wording: asked.append((given, wording)) or 0.5
    )
    (first, worded), (_, other), *ordered = asked
    assert first[0]["prompt"] == f"{rows[0]['text']} all in all it is"
    for shot, mine in zip(worded["shot_texts"], own, strict=True):
        assert shot == mine.replace(" it was", " all in all it is")
    assert other["template"] == PARAPHRASES[1]
    orders = [wording["shot_texts"] for _, wording in ordered]
    assert len(orders) == 3 and own not in orders and len({tuple(one) for one in orders}) == 3
    assert all(sorted(one) == sorted(own) for one in orders)


def test_no_more_orders_than_there_are(folders, task, tmp_path):
    folder = adapter(folders, task, tmp_path / "few", shots=2, orders=50)
    description = read_json(folder / "adapter.json")
    found = sensitivity(description, task, [], 0.5, lambda *_: 0.25)
    assert len(found["orders"]["variants"]) == 2


def test_nothing_is_kept_where_nothing_is_asked_for(folders, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    evaluate_adapter(folders["zero_shot"], folders["taste"], folders["base"], out, Silent())
    assert read_json(out / "sensitivity.json") == {}


def test_the_middle_of_an_even_number_is_one_that_exists():
    scores = {"a": 4, "b": 1, "c": 3, "d": 2}
    found = spread([{"name": name, "score": score} for name, score in scores.items()])
    assert [found[place]["name"] for place in ("min", "median", "max")] == ["b", "d", "a"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("shots: 0", "shots: 1, orders: 3"), r"adapters\.zero_shot\.orders.*3 orders of 1 shots"),
        (('It is"', 'It is"\n    paraphrases: ["{{{{text}}}} Was it?", "No"]'), "'No' has no"),
        (('It is"', 'It is"\n    paraphrases: ["{{{{story}}}} Was it?"]'), "have no 'story'"),
    ],
)
def test_what_makes_no_sense_is_refused(change, said):
    text = CATALOGUE.replace(*change).format(root=".")
    with pytest.raises(CatalogueError, match=said):
        parse(text)


def test_paraphrased_shots_are_of_the_few_examples_that_the_adapter_may_see(
    folders, task, tmp_path
):
    """They were drawn from all rows: another wording came with other shots."""
    folder = adapter(folders, task, tmp_path / "few", shots=2, examples=2)
    description = read_json(folder / "adapter.json")
    known = description["prompt"]["shot_texts"]
    asked = []
    rows = list(read_jsonl(task / "validation.jsonl"))
    sensitivity(description, task, rows, 0.5, lambda _, wording: asked.append(wording) or 0.5)
    texts = {row["prompt"] + row["answer"]: row for row in read_jsonl(task / "train.jsonl")}
    for number, wording in enumerate(asked):
        wanted = [texts[shot]["paraphrases"][number] + texts[shot]["answer"] for shot in known]
        assert wording["shot_texts"] == wanted
