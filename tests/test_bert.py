"""BERT's rung: what is hidden, how it resumes, its two vectors of one word, its pronouns."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.dataset import Dataset
from components.ingest import ingest
from components.ladder import bert as rung_of_bert
from components.ladder import bert_measures, pronouns, senses
from components.ladder.block import FIGURES, Rung, Vocabulary
from components.ladder.ground import Ground
from components.ladder.vocabulary import make_vocabulary
from components.lineage import folder_hash, read_json, write_jsonl
from components.models import bert
from components.reporter import Silent
from components.tokenizer import PAD, open_engine
from components.training import loop
from components.training.masked import (
    CHOSEN,
    HIDDEN,
    REPLACED,
    Masked,
    chosen_logits,
    chosen_of,
    hide,
)
from components.training.windows import Windows

BLOCK = {"family": "bert", "layers": 1, "width": 32, "heads": 2, "context": 32}
TRAINING = {"steps": 6, "batch_size": 4, "learning_rate": 0.003, "precision": "float32"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("bert")
    labels = {"positive": "positive", "negative": "negative"}
    world = {"path": "x", "format": "world", "seed": 1}
    sets = {
        "world": Dataset(**world, size=3000),
        "reviews": Dataset(
            **world, size=300, kinds=["review"], text="review", label="label", labels=labels
        ),
    }
    for name, block in sets.items():
        (place / name).mkdir()
        ingest(block, Path("x"), place / name, Silent())
    (place / "vocabulary").mkdir()
    block = Vocabulary(corpus="world", vocab_size=512)
    make_vocabulary(block, place / "world", place / "vocabulary", Silent())
    return place


def ground(folders: Path, work: Path, report=None) -> Ground:
    return Ground(
        corpus=folders / "world",
        also=folders / "reviews",
        vocabulary=folders / "vocabulary",
        files={},
        seed=1,
        checkpoints=work / "checkpoints",
        identity="a",
        report=report or Silent(),
    )


def rung(**model) -> Rung:
    return Rung.model_validate(
        {
            "corpus": "world",
            "also": "reviews",
            "vocabulary": "v",
            "model": {**BLOCK, "classifier": TRAINING, **model},
            "training": TRAINING,
        }
    )


def test_what_is_hidden_follows_the_paper():
    ids = torch.randint(100, (200, 64), generator=torch.Generator().manual_seed(1))
    hidden, places, targets = hide(ids, 100, torch.Generator().manual_seed(2))
    flat, shown = ids.flatten(), hidden.flatten()[places]
    assert torch.equal(flat[places], targets)
    untouched = torch.ones(len(flat), dtype=torch.bool)
    untouched[places] = False
    assert torch.equal(hidden.flatten()[untouched], flat[untouched])
    assert not set((places % 64).tolist()) & {0}, "the opening is never chosen"
    assert len(places) / len(flat) == pytest.approx(CHOSEN, abs=0.01)
    assert len(places) == len(places.unique())
    masked = (shown == 100).float().mean()
    kept = (shown == targets).float().mean()
    assert float(masked) == pytest.approx(HIDDEN, abs=0.03)
    # a random token is the same as the hidden one in one case of a hundred
    assert float(kept) == pytest.approx(1 - HIDDEN - REPLACED + REPLACED / 100, abs=0.03)


def test_logits_of_chosen_places_are_those_of_the_whole_model():
    model = bert.build(bert.Bert.model_validate(BLOCK), 100, 1, seed=0).eval()
    ids = torch.randint(100, (3, 32))
    places = torch.tensor([5, 40, 95])
    with torch.no_grad():
        whole = model(input_ids=ids).logits.flatten(0, 1)[places]
        assert torch.allclose(chosen_logits(model, ids, places), whole, atol=1e-6)
    labels = torch.full((96,), -100)
    labels[places] = ids.flatten()[places]
    expected = model(input_ids=ids, labels=labels.view(3, 32)).loss
    loss = torch.nn.functional.cross_entropy(whole, ids.flatten()[places])
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_classifier_begins_with_the_encoder_that_it_is_given():
    encoder = bert.build(bert.Bert.model_validate(BLOCK), 100, 1, seed=0).eval()
    model = bert.classifier(encoder, ["a", "b"], seed=3).eval()
    ids = torch.randint(100, (2, 8))
    with torch.no_grad():
        expected = encoder.bert(input_ids=ids).last_hidden_state
        assert torch.equal(model.bert(input_ids=ids).last_hidden_state, expected)
    assert model.config.id2label == {0: "a", 1: "b"}


class StopAt(Silent):
    """Ends the run as `kill -9` does, at a step that is told."""

    def __init__(self, name: str, step: int) -> None:
        self.name, self.step = name, step

    def metrics(self, values, step: int = 0) -> None:
        if step >= self.step and any(key.startswith(self.name) for key in values):
            raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["loss", "classifier.loss"])
def test_a_stopped_training_ends_with_the_same_bytes(folders, tmp_path, monkeypatch, where):
    monkeypatch.setattr(loop._Run, "save_if_due", lambda self, done, _: self._save(done))
    hashes = []
    for name, report in (("whole", None), ("stopped", StopAt(where, 4))):
        work = tmp_path / name
        (work / "out").mkdir(parents=True)
        if report:
            with pytest.raises(KeyboardInterrupt):
                rung_of_bert.train(rung(), ground(folders, work, report), work / "out")
            for path in sorted((work / "out").rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
        rung_of_bert.train(rung(), ground(folders, work), work / "out")
        hashes.append(folder_hash(work / "out"))
    assert hashes[0] == hashes[1]


def test_the_rung_is_measured_by_all_that_the_page_shows(folders, tmp_path):
    out, measures = tmp_path / "out", tmp_path / "measures"
    out.mkdir()
    measures.mkdir()
    block = rung(context=64)
    rung_of_bert.train(block, ground(folders, tmp_path), out)
    figures = bert_measures.measure(block, ground(folders, tmp_path), out, measures)
    told = read_json(measures / "metrics.json")
    for name in ("masked_accuracy", "senses_left", "pronouns", "accuracy", "accuracy_untaught"):
        low, high = told[name]["interval"]
        assert 0 <= low <= figures[name] <= high <= 1
    assert {name for name, figure in told.items() if isinstance(figure, dict)} <= set(
        FIGURES["bert"]
    )
    asked = [json.loads(line) for line in (measures / "pronouns.jsonl").open()]
    assert all(row["correct"] == float(row["nats"][0] > row["nats"][1]) for row in asked)
    assert told["accuracy"]["cut"] == 0 < told["accuracy"]["n"]
    assert (measures / "neighbours.json").is_file(), "its page has a table of them"
    judged = read_json(measures / "senses.json")
    assert len(judged["sentences"]) == judged["told"]["left"]["n"]
    # the word before "bank" gives the world's meanings away, so nothing is said of the other side
    assert "senses_right" not in told and set(judged["told"]) == {"left"}


class Parrot(torch.nn.Module):
    """Says of every token what stands there, and of the mask always the same word."""

    def __init__(self, tokens: int, guess: int, context: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=tokens + 1, max_position_embeddings=context)
        self.tokens, self.guess = tokens, guess

    def bert(self, input_ids: torch.Tensor) -> SimpleNamespace:
        said = torch.where(input_ids == self.tokens, self.guess, input_ids)
        return SimpleNamespace(last_hidden_state=torch.nn.functional.one_hot(said).float())

    def cls(self, states: torch.Tensor) -> torch.Tensor:
        return states


def test_only_what_stands_behind_a_mask_counts_as_told(folders, tmp_path):
    """One token in ten of the chosen stays as it is, and whoever repeats it was right."""
    engine = open_engine(folders / "vocabulary")
    size = engine.get_vocab_size()
    found = bert_measures._told(
        Parrot(size, engine.token_to_id(PAD), 32), engine, ground(folders, tmp_path)
    )
    assert found["score"] == 0.0
    chosen = bert_measures.WINDOWS * chosen_of(32)
    assert found["n"] == pytest.approx(HIDDEN * chosen, rel=0.05)


def test_a_sentence_longer_than_the_position_table_is_refused(folders, tmp_path):
    (tmp_path / "out").mkdir()
    rung_of_bert.train(rung(classifier=None), ground(folders, tmp_path), tmp_path / "out")
    with pytest.raises(ValueError, match=r"the model positions for 32; raise model\.context"):
        bert_measures.measure(rung(), ground(folders, tmp_path), tmp_path / "out", tmp_path)


def test_texts_that_a_classifier_does_not_see_whole_are_counted(folders, tmp_path):
    """At 32 tokens that is two of five film reviews in SST-2's test split, and nobody was told."""
    given = ground(folders, tmp_path)
    whole, none = rung_of_bert.encoded(given, ["negative", "positive"], "test", 512)
    lengths = sorted(len(text.ids) for text in whole)
    context = lengths[len(lengths) // 2]
    texts, cut = rung_of_bert.encoded(given, ["negative", "positive"], "test", context)
    assert none == 0 and cut == sum(length > context for length in lengths) > 0
    assert max(len(text.ids) for text in texts) == context


def test_labels_are_asked_for_where_there_are_none(folders, tmp_path):
    place = ground(folders, tmp_path)
    wrong = Ground(**{**vars(place), "also": folders / "world"})
    with pytest.raises(ValueError, match=r"rows have no label; name a data set with 'label'"):
        rung_of_bert.train(rung(), wrong, tmp_path)


def test_a_corpus_shorter_than_two_contexts_is_refused(folders):
    tokens, offsets = np.zeros(40, np.uint16), np.array([0, 40])
    with pytest.raises(ValueError, match="fewer than two contexts of 32"):
        Windows(tokens, offsets, 32, 0)


def test_validation_hides_the_same_tokens_every_time(folders):
    model = bert.build(bert.Bert.model_validate(BLOCK), 100, 1, seed=0).eval()
    tokens = np.random.default_rng(0).integers(100, size=2000).astype(np.uint16)
    windows = Windows(tokens, np.array([0, 2000]), 32, 0)
    objective = Masked(model, windows, tokens, rows=8, opening=0)
    assert objective.validate() == objective.validate()


def sentences_with(meanings: list[str], beginning: str = "{n} ") -> list[dict[str, str]]:
    """A row for each meaning; `n` is its number."""
    texts = [f"{beginning.format(n=n)}bank ." for n in range(len(meanings))]
    return [{"text": t, "sense": m} for t, m in zip(texts, meanings, strict=True)]


def test_vectors_of_two_meanings_are_told_apart_or_are_not():
    random = np.random.default_rng(0)
    rows = sentences_with(["river"] * 8 + ["money"] * 8)
    centres = np.repeat([[5.0, 0.0, 1.0], [0.0, 5.0, 1.0]], 8, axis=0)
    apart = senses.told_apart(centres + random.normal(0, 0.1, (16, 3)), rows)
    assert apart["score"] == 1.0
    one_vector = senses.told_apart(np.ones((16, 3)), rows)
    assert one_vector["score"] == 0.5
    noise = senses.told_apart(random.normal(0, 1, (16, 64)), rows)
    assert 0 < noise["score"] < 1


def test_what_is_decided_on_the_right_cannot_be_told_from_the_left():
    """13 of 16 sentences meant for both sides began with "The bank", which told their meaning."""
    rows = senses.sentences(Path("/dev/null"))
    right = [row for row in rows if row["side"] == senses.RIGHT]
    beginnings = [row["text"][: senses.place_of(row["text"])] for row in right]
    for sense in senses.SENSES:  # every beginning once with each meaning
        own = [b for b, row in zip(beginnings, right, strict=True) if row["sense"] == sense]
        assert sorted(own) == sorted(set(beginnings))
    random = np.random.default_rng(0)
    read = {beginning: random.normal(0, 1, 8) for beginning in beginnings}
    judged = senses.told_apart(np.stack([read[b] for b in beginnings]), right)
    assert (judged["score"], judged["interval"]) == (0.5, [0.5, 0.5])
    assert (judged["n"], judged["beginnings"]) == (32, 16)


def test_sentences_that_begin_alike_do_not_vouch_for_each_other():
    """Four beginnings, each with a vector of its own and one meaning: by its twin each would be
    right, by the rest it is wrong.
    """
    rows = []
    for beginning, meaning in (("a ", "river"), ("b ", "money"), ("c ", "river"), ("d ", "money")):
        rows += sentences_with([meaning] * 2, beginning)
    vectors = np.array([[1, 0], [1, 0], [1, 0.2], [1, 0.2], [0, 1], [0, 1], [0.2, 1], [0.2, 1]])
    assert senses.told_apart(vectors, rows)["score"] == 0.0


def test_sentences_come_from_the_world_where_the_text_is_of_it(folders, tmp_path):
    found = senses.sentences(folders / "world" / "test.jsonl")
    assert {row["sense"] for row in found} == {"river", "money"}
    for row in found:
        assert ("on the bank of the" in row["text"]) == (row["sense"] == "river")
        assert row["side"] == senses.LEFT
        assert row["text"][senses.place_of(row["text"]) :].startswith("bank")
    plain = tmp_path / "plain.jsonl"
    write_jsonl(plain, [{"text": "Nothing of the kind ."}])
    own = senses.sentences(plain)
    assert {(row["sense"], row["side"]) for row in own} == {
        (sense, side) for sense in senses.SENSES for side in senses.SIDES
    }
    for row in own:
        behind = row["text"][senses.place_of(row["text"]) + len(senses.WORD) :]
        assert (behind == " .") == (row["side"] == senses.LEFT)


def test_pronouns_ask_for_what_the_last_word_decides(folders, tmp_path):
    found = pronouns.questions(folders / "world" / "test.jsonl")
    assert found
    for question in found:
        right, wrong = question.candidates
        assert pronouns.GAP in question.text and right != wrong
        assert f" {wrong} " in question.text and f" {right} " in question.text
    plain = tmp_path / "plain.jsonl"
    write_jsonl(plain, [{"text": "Nothing of the kind ."}])
    pairs = pronouns.questions(plain)
    assert [q.candidates for q in pairs[::2]] == [q.candidates[::-1] for q in pairs[1::2]]
    being = [{"text": q.text, "correct": float(not n % 2)} for n, q in enumerate(pairs)]
    assert pronouns.share_right(being) == {
        "score": 0.5,
        "interval": [0.5, 0.5],
        "n": 16,
        "beginnings": 8,
    }
