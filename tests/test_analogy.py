"""`kindling analogy`: sums of words over a workspace's trained rungs."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from components.evaluation.analogies import calculate
from components.models.word_vectors import WordVectors, save_vectors
from flows.cli import app
from flows.cli_ladder import parse
from tests.conftest import ROOT

WORDS = ["king", "man", "woman", "queen", "apple"]
# royal, male, female, edible
MATRIX = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 1, 0], [0, 0, 0, 1]], "f4")
VECTORS = WordVectors(WORDS, np.arange(5, 0, -1), MATRIX)
CATALOGUE = f"""
root: {ROOT}
compute: {{threads: 1, jobs: 1}}
datasets:
  world: {{path: {ROOT}/components/world.py, format: world, size: 100}}
vocabularies:
  words: {{corpus: world, kind: words, vocab_size: 500}}
rungs:
  one_hot: {{corpus: world, vocabulary: words, model: {{family: one_hot}}}}
  skip_gram:
    corpus: world
    vocabulary: words
    model: {{family: word2vec, architecture: skip_gram}}
  glove: {{corpus: world, vocabulary: words, model: {{family: glove}}}}
ladders:
  words: {{rungs: [one_hot, skip_gram, glove]}}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "pipelines.yaml").write_text(CATALOGUE, encoding="utf-8")
    folder = tmp_path / "artifacts" / "rungs" / "skip_gram-1"
    folder.mkdir(parents=True)
    save_vectors(VECTORS, {}, folder)
    return tmp_path


def run(workspace: Path, *words: str):
    return CliRunner().invoke(app, ["-C", str(workspace), "analogy", *words])


def test_the_answer_is_the_nearest_of_the_other_words(workspace: Path):
    done = run(workspace, "king", "-", "man", "+", "woman", "--top", "2")
    lines = done.stdout.splitlines()
    assert lines[0] == "skip_gram:"
    assert lines[1].split()[1] == "queen"
    assert len(lines) == 3


def test_what_cannot_be_answered_is_refused_with_what_to_do(workspace: Path):
    said = str(run(workspace, "kingg").exception)
    assert said == "'kingg' is none of the 5 words; near it are king"
    assert "run 'dvc repro embedding@glove-1'" in str(
        run(workspace, "king", "--rung", "glove").exception
    )
    assert "no rung 'one_hot' learns" in str(run(workspace, "king", "--rung", "one_hot").exception)
    assert "from seed 2" in str(run(workspace, "king", "--seed", "2").exception)


def test_a_workspace_without_a_ladder_says_where_one_is():
    """It named a stage 'embedding@RUNG-1' that no workspace has."""
    said = str(run(ROOT, "king").exception)
    assert said.startswith("this workspace has no ladder; 'kindling -C ")
    assert "recipes/ladder_world run ladder' makes one" in said


def test_the_sum_is_of_vectors_at_length_1():
    terms = parse(["KING", "-", "man", "+", "woman"])
    unit = MATRIX / np.linalg.norm(MATRIX, axis=1, keepdims=True)
    total = unit[0] - unit[1] + unit[2]
    expected = unit @ total / np.linalg.norm(total)
    assert calculate(VECTORS, terms, 9) == [("queen", pytest.approx(expected[3])), ("apple", 0.0)]


@pytest.mark.parametrize("terms", [[], ["king", "man"], ["-"], ["king", "-"], ["king", "+", "-"]])
def test_what_is_no_sum_is_refused(terms: list[str]):
    with pytest.raises(ValueError, match="is no sum of words; type 'kindling analogy king - man"):
        parse(terms)


def test_one_word_and_quoted_sums_are_sums_too():
    assert parse(["king"]) == [(1, "king")]
    assert parse(["- man + king"]) == [(-1, "man"), (1, "king")]
