"""`docs/chaining.md` as it stands, against a server: one adapter extracts, another judges."""

import re

import pytest

from components.adapters.prompt import PromptDesign
from components.lineage import write_jsonl
from components.prompts import Prompt, render
from components.reporter import Silent
from components.serving.templates import FolderTemplates, Template
from components.tasks import Task, build_task
from tests.conftest import ROOT
from tests.serving import listening, make_gateway
from tests.tiny_models import COMMON, train

ROWS = [
    {
        "source": f"The plot was {a} . The cast was {b} .",
        "target": f"It was {a} .",
        "extra": {"aspect": "plot"},
    }
    for a in "abcd"
    for b in "efgh"
]


@pytest.fixture
def extract(folders, tmp_path):
    """An adapter for a task of extraction, with a prompt of two variables."""
    data, task = tmp_path / "aspects", tmp_path / "aspect"
    for folder in (data, task):
        folder.mkdir()
    for split in ("train", "validation", "test"):
        write_jsonl(data / f"{split}.jsonl", ROWS)
    prompt = Prompt(template="{{source}} About the {{aspect}}:", answer=" {{target}}")
    block = Task(dataset="aspects", kind="generation", prompt="aspect", metric="f1")
    build_task(block, "aspect", prompt, "aspect", data, task, Silent())
    folder = tmp_path / "extract"
    folder.mkdir()
    return train(PromptDesign(method="prompt", shots=1, **COMMON), task, folders["base"], folder)


def test_the_example_chains_two_adapters(extract, folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_LOG", "")
    made = {"base": folders["base"], "extract": extract, "judge": folders["soft_prompt"]}
    gateway = make_gateway(made, tmp_path)
    templates = FolderTemplates({"extract": extract, "judge": folders["soft_prompt"]})
    wording = templates.versions("ask")[0].text
    templates._found["sentiment"] = [Template("sentiment", 1, wording)]
    gateway.templates = templates
    text = (ROOT / "docs" / "chaining.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with listening(gateway) as address:
        here = {}
        exec(first.replace("http://127.0.0.1:8000", address), here)
        told = here["judge"](ROWS[0]["source"], "plot")
        again = here["ask"]("judge", "sentiment", 1, text=told["found"])
        exec(second, here)
    assert told["verdict"] == again[0]
    records = [gateway.fingerprints.record(identity.split("-")[1]) for identity in told["ids"]]
    assert [record["adapter"]["name"] for record in records] == ["extract", "judge"]
    assert [record["template"]["id"] for record in records] == ["aspect", "sentiment"]
    engine = gateway.current.now.engine
    asked = engine.encode(render(wording, {"text": told["found"]}))
    assert again[1].usage.prompt_tokens == len(asked)
    assert {"good", "bad"} <= set(re.findall(r"good|bad", capsys.readouterr().out))
