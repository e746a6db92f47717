"""Training and measuring models that translate, on the world, whose alignments are known."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from components.dataset import Dataset
from components.ingest import ingest
from components.ladder import translator, translator_measures
from components.ladder.alignments import alignment_error_rate, error_rate, word_weights
from components.ladder.block import Rung, key
from components.ladder.climb import Climb
from components.ladder.ground import Ground
from components.ladder.heads import PHRASE, lookup, roles
from components.ladder.meanings import projection, sentences_of
from components.ladder.pairs import encode, open_vocabulary, spaced
from components.ladder.translating import judged_sentences, translate
from components.ladder.vocabulary import make_vocabulary
from components.lineage import folder_hash, read_json, read_jsonl, write_json
from components.models import translation
from components.report.ladder import seq2seq, transformer
from components.report.ladder.book import write_book
from components.report.ladder.seeds import over_seeds
from components.report.ladder.translation import over_length
from components.reporter import Silent
from components.tokenizer import Tokenizer
from components.training import loop
from components.training.translation import Pair, Translation

WORLD = {"path": ".", "format": "world", "kinds": ["translation"], "size": 3000}
TRAINING = {"steps": 130, "batch_size": 64, "learning_rate": 0.01, "precision": "float32"}
MODELS = {
    "seq2seq": {"family": "seq2seq", "width": 48, "dropout": 0, "attention": "multiplicative"},
    "transformer": {"family": "transformer", "width": 48, "dropout": 0, "heads": 4, "layers": 2},
}
RATES = {"seq2seq": 0.01, "transformer": 0.004}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("pairs")
    made = {name: top / name for name in ("corpus", "vocabulary", "checkpoints")}
    for folder in made.values():
        folder.mkdir()
    dataset = Dataset.model_validate({**WORLD, "source": "source", "target": "target"})
    ingest(dataset, Path("."), made["corpus"], Silent())
    block = Tokenizer(vocab_size=500)
    make_vocabulary(block, made["corpus"], made["vocabulary"], Silent())
    return made


def ground(folders: dict[str, Path], checkpoints: Path) -> Ground:
    return Ground(folders["corpus"], None, folders["vocabulary"], {}, 1, checkpoints, "x", Silent())


def rung(name: str, **training: object) -> Rung:
    keys = {"corpus": "pairs", "vocabulary": "bpe", "model": MODELS[name]}
    return Rung.model_validate({**keys, "training": TRAINING | training})


@pytest.fixture(scope="module")
def climb(folders, tmp_path_factory) -> Climb:
    """Both families, trained and measured."""
    top = tmp_path_factory.mktemp("artifacts")
    # the Transformer bears a lower rate than the LSTM
    rungs = {name: rung(name, learning_rate=rate) for name, rate in RATES.items()}
    for name, block in rungs.items():
        trained, measured = (top / kind / key(name, 1) for kind in ("rungs", "measures"))
        for folder in (trained, measured):
            folder.mkdir(parents=True)
        given = ground(folders, top / "checkpoints" / name)
        translator.train(block, given, trained)
        write_json(trained / "rates.json", [])
        translator_measures.measure(block, given, trained, measured)
    return Climb("ladder", top, rungs, 1, [])


@pytest.fixture(params=MODELS)
def climbed(request: pytest.FixtureRequest, climb: Climb) -> tuple[str, Path, Path]:
    """A family, its trained model and its measures."""
    name = request.param
    return name, climb.trained(name)[name][0], climb.measured(name)[name][0]


def test_it_learns_to_translate_and_to_align(climbed):
    """Combinations of words in test stand in no training pair, so this is no memory."""
    _, _, measured = climbed
    metrics = read_json(measured / "metrics.json")
    assert metrics["beam"]["bleu"]["score"] > 0.8
    low, high = metrics["beam"]["bleu"]["interval"]
    assert low <= metrics["beam"]["bleu"]["score"] <= high
    # looking everywhere, or at the same place, is wrong at least half of the time
    assert metrics["alignment"]["score"] < 0.5
    assert metrics["cut"] == 0


def test_scores_are_sacrebleus_own(climbed):
    _, _, measured = climbed
    metrics = read_json(measured / "metrics.json")
    records = [row for row in read_jsonl(measured / "records.jsonl") if row["whole"]]
    references = [[row["reference"] for row in records]]
    for search in ("greedy", "beam"):
        written = [row[search] for row in records]
        for metric, scorer in (("bleu", BLEU()), ("chrf", CHRF())):
            found = metrics[search][metric]
            expected = scorer.corpus_score(written, references)
            assert 100 * found["score"] == pytest.approx(expected.score)
            assert found["signature"] == str(scorer.get_signature())


def test_what_pictures_need_is_there(climbed):
    family, _, measured = climbed
    maps = json.loads((measured / "alignments.json").read_text(encoding="utf-8"))
    for found in maps:
        weights = np.array(found["weights"])
        assert weights.shape == (len(found["target"]), len(found["source"]))
        assert (weights.sum(axis=1) <= 1.001).all()
    assert len(maps) == 3
    near = read_json(measured / "neighbours.json")
    assert "king" in near and all(len(found) == 8 for found in near.values())
    vectors = read_json(measured / "projection.json")
    assert 0 <= vectors["same"] <= 1 and len(vectors["sentences"]) == 8
    assert (measured / "heads.json").is_file() == (family == "transformer")


class StopAt(Silent):
    """Ends the run as `kill -9` does, at a step that is told."""

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        if step >= 4:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", MODELS)
def test_a_stopped_training_ends_with_the_same_bytes(folders, tmp_path, monkeypatch, name):
    monkeypatch.setattr(loop._Run, "save_if_due", lambda self, done, _: self._save(done))
    model = {**MODELS[name], "dropout": 0.2}  # what is dropped is drawn anew after a stop, alike
    block = Rung.model_validate({**rung(name, steps=6).model_dump(), "model": model})
    hashes = []
    for run, report in (("whole", None), ("stopped", StopAt())):
        given, out = ground(folders, tmp_path / f"checkpoints-{run}"), tmp_path / run
        out.mkdir()
        if report:
            with pytest.raises(KeyboardInterrupt):
                translator.train(block, replace(given, report=report), out)
            assert list(given.checkpoints.glob("step-*.pt")) and not list(out.iterdir())
        translator.train(block, given, out)
        hashes.append(folder_hash(out))
    assert hashes[0] == hashes[1]


def test_a_saved_model_translates_as_before(climbed, folders):
    family, trained, measured = climbed
    model, block = translation.load(trained)
    vocabulary = open_vocabulary(folders["vocabulary"])
    records = list(read_jsonl(measured / "records.jsonl"))[:5]
    texts, _ = translate(model, vocabulary, [r["source"] for r in records], block.longest, "beam")
    assert texts == [record["beam"] for record in records]
    assert block.family == family


def objective(smoothing: float, dropout: float = 0.0) -> Translation:
    model = translation.build(
        translation.Seq2SeqModel(family="seq2seq", width=16, dropout=dropout), 20, 0, seed=1
    )
    draw = np.random.default_rng(0)
    rows = [draw.integers(2, 20, draw.integers(1, 9)).tolist() for _ in range(24)]
    pairs = [Pair([*row, 1], [1, *row[::-1], 1]) for row in rows]
    return Translation(model, pairs, pairs[:7], rows=8, smoothing=smoothing, seed=3)


def test_parts_of_a_step_add_up_to_its_mean_loss():
    """Pairs differ in length: a mean of means would weigh short ones more."""
    found = objective(smoothing=0.0)
    whole = found.module(*found.batch(2, range(8)))
    parts = [found.module(*found.batch(2, range(start, start + 2))) for start in range(0, 8, 2)]
    torch.testing.assert_close(sum(parts), whole)
    chosen = [found.pairs[number] for number in found.batches(2)]
    each = []
    for pair in chosen:
        made = found.module.model(torch.tensor([pair.source]), torch.tensor([pair.target[:-1]]))
        nats = found.module.model.logits(made)[0].log_softmax(dim=-1)
        each += [-nats[n, token] for n, token in enumerate(pair.target[1:])]
    torch.testing.assert_close(torch.stack(each).mean(), whole)


def test_smoothing_is_of_training_alone():
    smooth, plain = objective(smoothing=0.1), objective(smoothing=0.0)
    batch = smooth.batch(0, range(8))
    assert smooth.module.train()(*batch) != plain.module.train()(*batch)
    for one in (smooth, plain):
        one.module.eval()
    assert smooth.validate() == plain.validate()


def test_long_pairs_are_left_out_and_counted(folders):
    vocabulary = open_vocabulary(folders["vocabulary"])
    rows = [{"source": "the dog", "target": "moku"}, {"source": "the dog " * 9, "target": "moku"}]
    assert len(vocabulary.encode([rows[0]["source"]])[0]) < 8
    pairs, left_out = encode(rows, vocabulary, longest=8)
    assert (len(pairs), left_out) == (1, 1)
    with pytest.raises(ValueError, match="none of 1 pairs has fewer than 8 tokens"):
        encode(rows[1:], vocabulary, longest=8)


def test_what_is_no_pair_is_refused(folders):
    vocabulary = open_vocabulary(folders["vocabulary"])
    with pytest.raises(ValueError, match=r"\['text'\] is no pair; name the columns"):
        encode([{"text": "the dog"}], vocabulary, longest=8)


@pytest.mark.parametrize("name", MODELS)
def test_long_sentences_are_cut_with_a_count(name, folders):
    """Where the position table ends the Transformer could not even read them."""
    vocabulary = open_vocabulary(folders["vocabulary"])
    model = {
        "seq2seq": translation.Seq2SeqModel, "transformer": translation.TransformerModel,
    }[name].model_validate({**MODELS[name], "longest": 6})  # fmt: skip
    built = translation.build(model, vocabulary.size, vocabulary.pad, seed=1).eval()
    texts, cut = translate(built, vocabulary, ["the dog " * 9, "the dog"], 6, "beam")
    assert cut == 1 and len(texts) == 2
    assert [vocabulary.fits(6, text) for text in ("the dog " * 9, "the dog")] == [False, True]


@pytest.mark.parametrize(("longest", "fit"), [(4, False), (8, True)])
def test_a_short_table_of_positions_is_measured_on_what_fits(folders, tmp_path, longest, fit):
    """Gold links, sentences of one meaning, the lookup: each was read whole, past the table. The
    world's sources have 7 tokens and an end.
    """
    vocabulary = open_vocabulary(folders["vocabulary"])
    block = Rung.model_validate(
        {**rung("transformer").model_dump(), "model": {**MODELS["transformer"], "longest": longest}}
    )
    artifacts = tmp_path / "artifacts"
    trained, measured = (artifacts / kind / "short-1" for kind in ("rungs", "measures"))
    for folder in (trained, measured):
        folder.mkdir(parents=True)
    model = translation.build(block.model, vocabulary.size, vocabulary.pad, seed=1).eval()
    translation.save(model, block.model, trained)
    write_json(trained / "training.json", {"parameters": 1, "tokens": 1})
    write_json(trained / "rates.json", [])
    figures = translator_measures.measure(block, ground(folders, tmp_path), trained, measured)
    assert ("alignment_error_rate" in figures) == fit
    assert (measured / "heads.json").is_file() == fit
    assert (read_json(measured / "metrics.json")["cut"] == 0) == fit
    page = transformer.page(Climb("ladder", artifacts, {"short": block}, 1, []))
    assert page.title == "The Transformer"


def test_error_rate_is_och_and_neys():
    """Three links, two of them right, of four gold ones: 1 - (2 + 2) / (3 + 4)."""
    assert error_rate(np.array([2.0, 7.0])) == pytest.approx(1 - 4 / 7)


class Diagonal:
    """Looks at the source word in the place of the target word."""

    def alignment(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.eye(max(target.shape[1], source.shape[1]))[
            None, None, : target.shape[1], : source.shape[1]
        ]


def test_alignment_error_by_hand(folders):
    vocabulary = open_vocabulary(folders["vocabulary"])
    words = ["dog", "cat", "sees"]
    text = " ".join(words)
    weights = word_weights(Diagonal(), vocabulary, text, text)[0]
    assert weights.argmax(axis=1).tolist() == [0, 1, 2]
    row = {"source": text, "target": text, "alignment": [[0, 0], [1, 2]]}
    found = alignment_error_rate(Diagonal(), vocabulary, [row])
    assert found["score"] == pytest.approx(1 - 2 * 1 / (3 + 2))


def test_tokens_become_words(folders):
    vocabulary = open_vocabulary(folders["vocabulary"])
    text = "the unheardof river, see"
    ids, words = vocabulary.words(text)
    assert len(ids) > 4 and sorted(set(words)) == [0, 1, 2, 3]
    for number, word in enumerate(text.split()):
        own = [token for token, place in zip(ids, words, strict=True) if place == number]
        assert vocabulary.decode([own]) == [word]


def test_each_source_is_judged_once():
    rows = [{"source": f"a {n // 2}", "target": f"b {n}"} for n in range(10)]
    found = judged_sentences(rows)
    assert [row["reference"] for row in found] == ["b 0", "b 2", "b 4", "b 6", "b 8"]
    assert all(row["whole"] for row in found)
    assert spaced(range(10), 4) == [0, 2, 5, 7]


class TwoHeads:
    """The first looks at the token before, the second always at the first token."""

    def encode(self, source: torch.Tensor) -> tuple[None, None, list[torch.Tensor]]:
        size = source.shape[1]
        before = torch.eye(size).roll(-1, dims=1)
        before[0] = torch.eye(size)[0]  # which has none before it
        first = torch.zeros(size, size)
        first[:, 0] = 1
        return None, None, [torch.stack([before, first])[None]]


def test_heads_are_told_by_where_they_look(folders):
    vocabulary = open_vocabulary(folders["vocabulary"])
    text = "the dog sees the cat"
    ids, words = vocabulary.words(text)
    assert words == [0, 1, 2, 3, 4]  # a token each, so that neighbours are words
    frequency = Counter(ids) + Counter(ids[1:])  # "the" at the beginning is the rarest
    found = roles(TwoHeads(), vocabulary, [text], frequency, {"verb to subject": ((2, 1),)})
    shares = {role: layers[0] for role, layers in found["shares"].items()}
    assert shares["previous"] == [1.0, 0.25] and shares["next"] == [0.0, 0.0]
    assert shares["rarest"] == [0.4, 1.0]
    assert shares["verb to subject"] == [1.0, 0.0]
    assert found["chance"]["rarest"] == pytest.approx(0.2)
    assert found["confidence"] == [[1.0, 1.0]]


@torch.no_grad()
def test_a_lookup_is_what_the_head_computes(folders):
    vocabulary = open_vocabulary(folders["vocabulary"])
    block = translation.TransformerModel.model_validate(MODELS["transformer"])
    model = translation.build(block, vocabulary.size, vocabulary.pad, seed=2).eval()
    found = lookup(model, vocabulary)
    ids = vocabulary.encode([PHRASE])[0]
    _, _, seen = model.encode(torch.tensor([[*ids, vocabulary.end]]))
    head = seen[found["layer"] - 1][0, found["head"] - 1]
    assert found["weights"] == pytest.approx(head[found["asks"]].tolist(), abs=1e-3)
    powers = np.exp(found["scores"])
    assert found["weights"] == pytest.approx((powers / powers.sum()).tolist(), abs=1e-3)
    output = np.array(found["weights"]) @ np.array(found["values"])
    assert found["output"] == pytest.approx(output.tolist(), abs=1e-3)


class Bag:
    """A sentence's vector is the sum of its words', whatever their order."""

    def sentence_vectors(self, source: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(source, 600).sum(dim=1).float()


def test_a_bag_of_words_cannot_tell_who_acts(folders):
    """Of sentences of one order and one verb it sees the other meaning as the nearest."""
    vocabulary = open_vocabulary(folders["vocabulary"])
    orders, reordered = sentences_of(list(read_jsonl(folders["corpus"] / "test.jsonl")))
    assert len(orders) == 8 and len(reordered) == 3
    assert projection(Bag(), vocabulary, orders)["same"] == 0.0


def test_the_pages_show_what_was_measured(climb, tmp_path):
    figures = write_book(climb, tmp_path, Silent())
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "The Transformer" in text and "Sequence to sequence" in text
    assert figures["pictures"] == len(list((tmp_path / "pictures").iterdir()))
    for name in ("vectors_seq2seq", "alignment_seq2seq_1", "heads_transformer"):
        assert (tmp_path / "pictures" / f"{name}.png").is_file()
    for name in MODELS:
        score = read_json(climb.measured(name)[name][0] / "metrics.json")["beam"]["bleu"]["score"]
        assert f"{100 * score:.1f} [" in text


def test_lengths_are_drawn_where_they_differ(climb, tmp_path):
    """The world's pairs have 7 words each: one point is no line."""
    assert over_length(climb, "pairs") == []
    for name in MODELS:
        shutil.copytree(
            climb.artifacts / "measures" / key(name, 1), tmp_path / "measures" / key(name, 1)
        )
        file = tmp_path / "measures" / key(name, 1) / "metrics.json"
        metrics = read_json(file)
        point = metrics["by_length"][0]
        write_json(file, {**metrics, "by_length": [point, {**point, "words": 12.0}]})
    (picture,) = over_length(replace(climb, artifacts=tmp_path), "pairs")
    axes = picture.figure.axes[0]
    assert axes.get_legend_handles_labels()[1] == list(MODELS)


def test_a_test_set_with_too_few_sentences_of_every_length_has_no_longest(climb, tmp_path):
    shutil.copytree(climb.artifacts, tmp_path / "artifacts")
    file = tmp_path / "artifacts" / "measures" / key("seq2seq", 1) / "metrics.json"
    write_json(file, {**read_json(file), "by_length": []})
    assert "BLEU on pairs, all of one length (6 to 10 words)" in seq2seq.page(climb).finding
    assert seq2seq.page(replace(climb, artifacts=tmp_path / "artifacts")).finding == ""


def test_a_ladder_without_them_has_no_such_page():
    empty = Climb("ladder", Path("."), {}, 1, [])
    assert seq2seq.page(empty) is None and transformer.page(empty) is None


def test_one_seed_keeps_its_interval_and_several_have_their_own():
    """Student's interval of 1, 2, 3: 2 ± 4.303 x 1 / √3 (tables of the distribution)."""
    found = [{"score": score, "interval": [score - 9, score + 9]} for score in (1.0, 2.0, 3.0)]
    assert over_seeds(found[:1]) == found[0]
    low, high = over_seeds(found)["interval"]
    assert (low, high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)
