"""Comparisons and bases brought along through the whole flow: run, asked, run again, changed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.catalogue import load
from components.lineage import read_json
from tests.conftest import asked, change, waiting
from tests.test_brought import make_family

pytestmark = pytest.mark.slow


def kindling(workspace: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def stages_run(said: str) -> set[str]:
    return {line.split("'")[-2] for line in said.splitlines() if "Running stage" in line}


def test_a_comparison_from_its_block_to_its_advice(flow_workspace):
    """The second run does nothing; another seed trains what is new and tries nothing again."""
    methods = {"prompt": {}, "lora": {"rank": 2, "batch_size": 8}}
    block = {"pipeline": "quickstart", "task": "sentiment", "methods": methods}
    block |= {"budget": 4000, "trials": 3, "seeds": 1}
    blocks = {"adapters": {}, "gates": {}, "comparisons": {"ways": block}}
    change(flow_workspace, lambda document: document.update(blocks))
    said = kindling(flow_workspace, "run", "quickstart")
    assert "dvc.yaml was written anew" in said and "kindling compare ways" in said
    result = flow_workspace / "artifacts/comparisons/ways/result"
    told = read_json(result / "comparison.json")
    assert [row["name"] for row in told["rows"]] == ["prompt", "lora"]
    assert {row["difference_to_best"] is None for row in told["rows"]} == {True, False}
    assert "ship " in told["advice"][0] and told["advice"][0] in (result / "index.html").read_text()
    assert all(row["first_token_ms"] > 0 for row in told["rows"])
    assert [row["memory_bytes"] > 0 for row in told["rows"]] == [False, True]
    shown = asked(flow_workspace, "compare", "ways", "--json", str(flow_workspace / "out.json"))
    assert told["advice"][0].split(" (")[0] in " ".join(shown.split())
    assert json.loads((flow_workspace / "out.json").read_text()) == told

    assert kindling(flow_workspace, "run", "quickstart").count("Running stage") == 0
    trials = sorted((flow_workspace / ".kindling/trials").iterdir())
    change(flow_workspace, lambda document: document["comparisons"]["ways"].update(seeds=2))
    again = kindling(flow_workspace, "run", "quickstart")
    ran = stages_run(again)
    finals = {"final@ways-prompt-2", "final@ways-lora-2", "comparison@ways"}
    assert finals <= ran <= finals | {"search@ways-prompt", "search@ways-lora"}
    assert sorted((flow_workspace / ".kindling/trials").iterdir()) == trials
    assert len(read_json(result / "comparison.json")["rows"][0]["seed_scores"]) == 2


def test_a_base_brought_along_is_adapted_judged_and_registered(flow_workspace, folders):
    """And with --force all of it again, to the same bytes: there is nothing new to register."""
    make_family("qwen2", flow_workspace / "models" / "mine", folders["tokenizer"])

    def edit(document) -> None:
        document["pipelines"] = {"mine": {"base": "models/mine"}}
        common = {"pipeline": "mine", "task": "sentiment"}
        document["adapters"] = {
            "zero_shot": {**common, "method": "prompt"},
            "own": {**common, "method": "lora", "rank": 2, "steps": 5},
        }
        document["deployments"] = []

    change(flow_workspace, edit)
    said = kindling(flow_workspace, "run", "mine")
    assert "registered mine.base version 1" in said
    page = (flow_workspace / "artifacts/mine/report/index.html").read_text(encoding="utf-8")
    assert "of the family qwen2, brought along" in page and "The base</h2>" not in page
    assert waiting(flow_workspace, "mine") == set()
    traced = asked(flow_workspace, "trace", "artifacts/mine/adapters/own")
    assert "mine/base" in traced
    again = kindling(flow_workspace, "run", "mine", "--force")
    assert stages_run(again) == set(load(flow_workspace).stages_of("mine"))
    assert "registered " not in again
