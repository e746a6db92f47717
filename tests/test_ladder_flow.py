"""The whole climb on the world, as its recipe has it: run, its gates held, run again, one rung
changed, and refused where it is wrong.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from components.catalogue import CatalogueError, load, parse
from components.ladder.block import GROUPS
from components.lineage import read_json
from tests.conftest import ROOT, asked, isolate, make_workspace, waiting

RECIPE = ROOT / "recipes" / "ladder_world" / "pipelines.yaml"
PAGES = 10


def kindling(workspace: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def moved(text: str) -> dict:
    """The recipe's catalogue as it is, for a workspace elsewhere."""
    document = YAML(typ="safe").load(text)
    document["root"] = str(ROOT)
    for block in document["datasets"].values():
        block["path"] = str(ROOT / "components" / "world.py")
    return document


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_ladder_is_climbed_once_and_a_changed_rung_alone_again(
    tmp_path, monkeypatch, prefect_server
):
    workspace = make_workspace(tmp_path / "workspace")
    isolate(monkeypatch, workspace, prefect_server)
    document = moved(RECIPE.read_text(encoding="utf-8"))
    with (workspace / "pipelines.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(document, file)
    said = kindling(workspace, "run", "ladder")
    assert "artifacts/ladder/report/index.html" in said
    status = asked(workspace, "status")
    assert re.search(r"^ladder: \d\d stages up to date, 0 not$", status, re.MULTILINE)
    report = workspace / "artifacts" / "ladder" / "report"
    page = (report / "index.html").read_text(encoding="utf-8")
    assert page.count("<h2 ") == PAGES
    pictures = list((report / "pictures").glob("*.png"))
    assert len(pictures) == page.count("<figure>") > PAGES
    measured = read_json(workspace / "artifacts" / "measures" / "lstm-1" / "metrics.json")
    assert re.search(r"lstm [\d.]+ GFLOPs in \d+ s", page)
    tried = r"those tried: ngram 0\.00\d+ of .*?; rnn 0\.00\d of 0\.003 \([\d.]+\), 0\.006 \("
    assert re.search(tried, page)
    low, high = measured["perplexity_per_word"]["interval"]
    assert f"{measured['perplexity_per_word']['score']:.1f} [{low:.1f}, {high:.1f}]" in page
    aligned = read_json(workspace / "artifacts" / "measures" / "additive-1" / "metrics.json")
    assert aligned["alignment"]["score"] < 0.1, "attention that learned finds the gold links"

    assert waiting(workspace, "ladder") == set()
    again = kindling(workspace, "run", "ladder", "--set", "rungs.lstm.training.learning_rate=0.02")
    ran = {line.split("'")[-2] for line in again.splitlines() if "Running stage" in line}
    assert ran == {"language@lstm-1", "measure_language@lstm-1", "ladder@ladder"}
    traced = asked(workspace, "trace", "artifacts/ladder/report")
    for part in ("measures/lstm-1", "rungs/lstm-1", "vocabularies/bpe", "datasets/world"):
        assert f"artifacts/{part}" in traced
    sums = asked(workspace, "analogy", "bigger", "-", "big", "+", "small")
    assert "skip_gram:" in sums and "glove:" in sums


def mistaken(change) -> str:
    """What is said of the recipe with a mistake in it."""
    from io import StringIO

    yaml = YAML()
    document = yaml.load(RECIPE.read_text(encoding="utf-8"))
    change(document)
    text = StringIO()
    yaml.dump(document, text)
    with pytest.raises(CatalogueError) as refused:
        parse(text.getvalue())
    return str(refused.value)


def test_mistakes_in_a_ladder_are_named():
    rungs = "rungs"
    said = mistaken(lambda d: d[rungs]["lstm"].update(vocabulary="bpee"))
    assert "rungs.lstm.vocabulary: no vocabularies block is called 'bpee'; did you mean" in said
    said = mistaken(lambda d: d[rungs]["lstm"]["model"].update(family="lstmm"))
    assert "rungs.lstm.model.family: there is no family 'lstmm'; did you mean 'lstm'?" in said
    said = mistaken(lambda d: d[rungs]["lstm"]["model"].update(widht=3))
    assert "unknown key 'widht'; did you mean 'width'?" in said
    said = mistaken(lambda d: d[rungs]["lstm"].pop("training"))
    assert "rungs.lstm" in said and "training is missing" in said
    said = mistaken(lambda d: d["ladders"]["ladder"]["rungs"].append("nobody"))
    assert "ladders.ladder.rungs: no rungs block is called 'nobody'" in said
    said = mistaken(lambda d: d["ladders"].update(rungs=d["ladders"]["ladder"]))
    assert "artifacts/rungs holds all rungs; rename this one" in said


@pytest.mark.parametrize(
    ("rung", "change", "said"),
    [
        ("bert", lambda r: r.pop("also"), "rungs.bert.model.classifier: a classifier is fitted to"),
        (
            "bert",
            lambda r: r["model"].pop("classifier"),
            "rungs.bert.also: nothing reads 'reviews'",
        ),
        (
            "bert",
            lambda r: r.update(also="sums"),
            "data set 'sums' has no label for a classifier; ",
        ),
        (
            "lstm",
            lambda r: r.update(also="sums"),
            "rungs.lstm.also: family lstm reads one data set",
        ),
        ("additive", lambda r: r.update(also="world"), "family seq2seq reads one data set"),
        (
            "transformer",
            lambda r: r.update(corpus="world"),
            "corpus: data set 'world' has no pairs",
        ),
        (
            "glove",
            lambda r: r.update(files={"analogy": "x"}),
            "rungs.glove.files.analogy: family glove is measured by no file called 'analogy'; did "
            "you mean 'analogies'? known: analogies, wordsim",
        ),
        (
            "bert",
            lambda r: r["model"]["classifier"].update(learning_rate=[0.001, 0.002]),
            "rates of a classifier are not tried; name one",
        ),
        (
            "lstm",
            lambda r: r.update(files={"wordsim": "x"}),
            "rungs.lstm.files.wordsim: family lstm is measured by no file called 'wordsim'",
        ),
    ],
)
def test_what_a_rung_would_not_read_or_would_lack_is_refused_before_any_work(rung, change, said):
    assert said in mistaken(lambda d: change(d["rungs"][rung]))


def test_an_expectation_speaks_of_figures_that_both_rungs_have():
    def expects(**keys):
        return lambda d: d["ladders"]["ladder"]["expects"].append(keys)

    said = mistaken(expects(better="lstm", than="rnn", by="perplexity"))
    assert "expects.3.by: rung 'lstm' has no figure 'perplexity'; did you mean" in said
    said = mistaken(expects(better="bert", than="lstm", by="masked_accuracy"))
    assert "rung 'lstm' has no figure 'masked_accuracy'" in said and "rung 'bert'" not in said
    said = mistaken(expects(better="glove", than="one_hot", by="analogies.all"))
    assert "rung 'one_hot' has no figure" in said and "rung 'glove'" not in said
    said = mistaken(expects(better="glove", than="skip_gram", by="analogies.family"))
    assert "has no figure 'analogies.family'; did you mean" in said, "it is analogies.sections.*"
    said = mistaken(expects(better="additive", than="seq2seq", by="alignment"))
    assert "rung 'seq2seq' has no figure 'alignment'" in said and "rung 'additive'" not in said
    said = mistaken(expects(better="bert", than="lstm", by="senses_right"))
    assert "rung 'bert' has no figure 'senses_right'" in said, "the world's words stand before it"


def test_every_family_of_a_group_has_its_stages():
    catalogue = load(RECIPE.parent)
    stages = catalogue.stages_of("ladder")
    assert len(stages) == len(set(stages))
    for name, rung in catalogue.rungs.items():
        assert rung.group in GROUPS
        assert stages.index(f"{rung.group}@{name}-1") < stages.index(
            f"measure_{rung.group}@{name}-1"
        )
    assert stages[-1] == "ladder@ladder"


def test_the_recipe_has_gates():
    """What holds by a wide margin must hold; GPT's small lead after 300 steps need not."""
    gates = {e.better for e in load(RECIPE.parent).ladders["ladder"].expects if e.must}
    assert gates == {"lstm", "additive"}
