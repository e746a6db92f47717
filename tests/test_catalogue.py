"""Mistakes in the catalogue are refused before any work, with place, value and remedy."""

from pathlib import Path

import pytest

from components.catalogue import CatalogueError, load, parse
from tests.conftest import CATALOGUE, ROOT

TEXT = CATALOGUE.format(root=".")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rank: 2", "rnk: 2", "adapters.lora.rnk: unknown key 'rnk'; did you mean 'rank'"),
        ("rank: 2", "rank: two", "adapters.lora.rank"),
        ("method: lora", "method: lara", "lara"),
        ("task: sentiment, method: full", "task: sentimant, method: full", "did you mean 'sent"),
        ("corpus: tales", "corpus: tails", "no datasets block is called 'tails'"),
        ("width: 32", "width: 33", "must be a multiple of 2 x heads"),
        ("tokens: 20480", "tokens: 100", "is less than batch_tokens"),
        ("vocab_size: 320", "vocab_size: 20", "vocab_size"),
        ("baseline: zero_shot", "baseline: zero", "no adapters block is called 'zero'"),
        ("format: text", "format: doc", "datasets.tales.format"),
        ('negative: " bad"', 'negative: " good"', "answers must differ"),
        ("{{text}} It is", "It is", "has no {{variable}}"),
        ("adapters:\n", "adapters:\n  base: {}\n", "adapters.base"),
        ("gates:", "gates: [", "not valid YAML"),
    ],
)
def test_mistakes_are_named(old, new, said):
    assert old in TEXT
    with pytest.raises(CatalogueError) as refused:
        parse(TEXT.replace(old, new))
    assert said in str(refused.value)


def test_the_line_is_named():
    line = next(n for n, text in enumerate(TEXT.splitlines(), 1) if "rank: 2" in text)
    with pytest.raises(CatalogueError, match=rf"pipelines.yaml:{line}: adapters.lora.rnk"):
        parse(TEXT.replace("rank: 2", "rnk: 2"))


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(CatalogueError, match="is no kindling workspace"):
        load(tmp_path)
    (tmp_path / "pipelines.yaml").write_text(CATALOGUE.format(root=ROOT))
    with pytest.raises(CatalogueError, match=r"there is no data/tales\.txt"):
        load(tmp_path)


@pytest.mark.parametrize(
    "workspace", [ROOT, *sorted(ROOT.glob("recipes/*/"))], ids=lambda p: p.name
)
def test_the_catalogues_of_this_repository_are_valid(workspace):
    assert load(workspace)


def test_the_template_is_valid_and_shows_every_key():
    from tests.test_architecture import Catalogue, blocks

    text = (ROOT / "flows" / "template" / "pipelines.yaml").read_text(encoding="utf-8")
    parse(text)
    words = set(text.replace("#", " ").replace(":", " ").replace("{", " ").split())
    for block in blocks(Catalogue, set()):
        hidden = {"comparisons"}
        assert set(block.model_fields) - words <= hidden, block.__name__
