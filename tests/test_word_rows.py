"""Which rows of a model's table stand for whole words, whatever the kind of vocabulary."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from components import world
from components.evaluation.neighbours import ASKED
from components.ladder.vocabulary import make_vocabulary
from components.ladder.word_rows import whole_words, write_neighbours
from components.lineage import write_jsonl
from components.reporter import Silent
from components.tokenizer import Tokenizer, open_engine

TEXTS = [row["text"] for row in world.documents(1500, seed=1)]
KINDS = ("bpe", "wordpiece", "unigram", "words")


@pytest.fixture(scope="module", params=KINDS)
def engine(request, tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp(request.param)
    dataset, folder = place / "world", place / "vocabulary"
    dataset.mkdir()
    folder.mkdir()
    rows = list(world.documents(1500, seed=1))
    for split in ("train", "validation", "test"):
        write_jsonl(dataset / f"{split}.jsonl", (r for r in rows if world.split_of(r) == split))
    make_vocabulary(Tokenizer(kind=request.param, vocab_size=800), dataset, folder, Silent())
    return open_engine(folder)


def test_a_word_has_the_row_that_it_is_read_by_in_a_sentence(engine):
    size = engine.get_vocab_size()
    found = whole_words(engine, np.arange(size, dtype=np.float32)[:, None], TEXTS)
    assert len(found.words) > 100 and found.counts[0] == max(found.counts)
    for word, (row,) in zip(found.words, found.matrix, strict=True):
        assert word.isalpha() and engine.encode(f"the {word}").ids[-1] == row


def test_a_part_of_a_word_is_no_word(engine):
    """'st' is a token of most vocabularies, and stood among the nearest words."""
    table = np.zeros((engine.get_vocab_size(), 1), np.float32)
    assert set(whole_words(engine, table, ["the king saw"]).words) <= {"the", "king", "saw"}
    assert not whole_words(engine, table, ["xqzvjw 7"]).words


def test_what_is_near_is_found_in_the_table(engine, tmp_path: Path):
    """In a table where every token is orthogonal but two words, these are each other's nearest."""
    table = torch.eye(engine.get_vocab_size() + 1)  # BERT's has one more, the mask
    encoded = {word: engine.encode(f" {word}").ids for word in ASKED}
    one, other = [word for word, ids in encoded.items() if len(ids) == 1][:2]
    (row,), (other_row,) = encoded[one], encoded[other]
    table[row] = table[other_row] = table[row] + table[other_row]
    write_neighbours(engine, table, TEXTS, tmp_path)
    near = json.loads((tmp_path / "neighbours.json").read_text(encoding="utf-8"))
    assert set(near) <= set(ASKED)
    assert near[one][0] == [other, pytest.approx(1)]
    assert near[other][0] == [one, pytest.approx(1)]
