"""n-gram, RNN, LSTM and decoder as rungs: against PyTorch's and transformers', and themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from components.dataset import Dataset
from components.evaluation.document_nats import _pieces, document_nats, reader_of
from components.ingest import ingest
from components.ladder import arithmetic, language, language_measures, reach
from components.ladder.block import FIGURES, Rung, Vocabulary
from components.ladder.ground import Ground
from components.ladder.vocabulary import make_vocabulary
from components.lineage import folder_hash, read_json, read_jsonl
from components.models.blocks import LSTMBlock, NGramBlock, RNNBlock
from components.models.ngram import NGram
from components.models.recurrent import Recurrent
from components.reporter import Silent
from components.tokenizer import END, open_engine
from components.training import loop

MODELS = {
    "ngram": {"family": "ngram", "order": 4, "width": 16, "hidden": 24, "context": 32},
    "rnn": {"family": "rnn", "layers": 2, "width": 16, "context": 32, "dropout": 0.2},
    "lstm": {"family": "lstm", "layers": 1, "width": 16, "context": 32, "dropout": 0.2},
    "decoder": {"family": "decoder", "layers": 1, "width": 16, "heads": 2, "context": 32},
}
TRAINING = {"steps": 8, "batch_size": 4, "learning_rate": 0.01, "precision": "float32"}


def rung(family: str) -> Rung:
    block = {"corpus": "world", "vocabulary": "v", "model": MODELS[family], "training": TRAINING}
    return Rung.model_validate(block)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("language")
    for name, kinds in (("world", None), ("stories", ["story"])):
        (place / name).mkdir()
        block = Dataset(path="x", format="world", seed=1, size=2000, kinds=kinds)
        ingest(block, Path("x"), place / name, Silent())
    (place / "vocabulary").mkdir()
    block = Vocabulary(corpus="world", vocab_size=400)
    make_vocabulary(block, place / "world", place / "vocabulary", Silent())
    return place


def ground(folders: Path, work: Path, corpus: str = "world", report=None) -> Ground:
    return Ground(
        corpus=folders / corpus,
        also=None,
        vocabulary=folders / "vocabulary",
        files={},
        seed=1,
        checkpoints=work / "checkpoints",
        identity="a",
        report=report or Silent(),
    )


def test_an_ngram_is_the_papers_formula():
    block = NGramBlock.model_validate(MODELS["ngram"])
    model = NGram(block, 50, end=7).eval()
    ids = torch.randint(50, (2, 9))
    states = model.states(ids)
    before = torch.cat([torch.full((2, 2), 7), ids], 1)
    for place in range(9):
        x = model.embedding(before[:, place : place + 3]).reshape(2, -1)
        expected = model.back(torch.tanh(model.hidden(x)))
        assert torch.allclose(states[:, place], expected, atol=1e-6)


@pytest.mark.parametrize(("family", "block"), [("rnn", RNNBlock), ("lstm", LSTMBlock)])
def test_a_recurrent_model_reads_a_word_at_a_time(family, block):
    """The whole sequence at once equals its cells, called one by one."""
    model = Recurrent(block.model_validate({**MODELS[family], "layers": 1}), 50).eval()
    ids = torch.randint(50, (2, 9))
    cell = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell}[family](16, 16)
    own = {name.removesuffix("_l0"): value for name, value in model.cells.state_dict().items()}
    cell.load_state_dict(own)
    state = None
    for place in range(9):
        state = cell(model.embedding(ids[:, place]), state)
        shown = state[0] if family == "lstm" else state
        assert torch.allclose(model.states(ids)[:, place], shown, atol=1e-6)


@pytest.mark.parametrize("context", [2, 3, 7, 8])
@pytest.mark.parametrize("length", [2, 8, 9, 10, 11, 16, 31])
def test_every_token_of_a_long_document_is_judged_once(context, length):
    """Pieces of an odd context overlap by more than half of it: a target was counted twice."""
    judged = []
    for tokens, known in _pieces(range(length), context):
        assert len(tokens) <= context + 1, "what predicts the last of them must fit"
        judged += tokens[known + 1 :]
    assert judged == list(range(1, length))


@pytest.mark.parametrize("family", list(MODELS))
def test_nats_of_documents_are_those_of_whole_logits(folders, family):
    block = rung(family)
    model = language.build(block, folders / "vocabulary", 1).eval()
    reads = language.reader(block, model)
    documents = [[0, 5, 6, 7, 0], [0, 9, 9, 8, 7, 6, 0], list(range(30))]
    found = document_nats(reads, documents, Silent())
    for document, nats in zip(documents, found, strict=True):
        ids = torch.tensor([document])
        with torch.no_grad():
            logits = reads.logits(ids[:, :-1])[0]
        expected = cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        assert nats == pytest.approx(expected, rel=1e-5)


def test_a_decoder_reads_as_transformers_does(folders):
    model = language.build(rung("decoder"), folders / "vocabulary", 1).eval()
    ids = torch.randint(300, (2, 12))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        assert torch.equal(reader_of(model).logits(ids), expected)
        table = model.get_output_embeddings().weight
        hidden = language.states(rung("decoder"), model, ids)
        assert torch.allclose(hidden @ table.T, expected, atol=1e-5)


@pytest.mark.parametrize("family", list(MODELS))
def test_a_rung_is_trained_stopped_resumed_and_measured(folders, tmp_path, monkeypatch, family):
    class Stop(Silent):
        def metrics(self, values, step=0):
            if step >= 5:
                raise KeyboardInterrupt

    monkeypatch.setattr(loop._Run, "save_if_due", lambda self, done, _: self._save(done))
    hashes = []
    for name, report in (("whole", None), ("stopped", Stop())):
        work, out = tmp_path / name, tmp_path / name / "out"
        out.mkdir(parents=True)
        if report:
            with pytest.raises(KeyboardInterrupt):
                language.train(rung(family), ground(folders, work, report=report), out)
        figures = language.train(rung(family), ground(folders, work), out)
        hashes.append(folder_hash(out))
        assert sorted(p.name for p in work.iterdir()) == ["checkpoints", "out"], "left behind"
    assert hashes[0] == hashes[1]
    assert figures["tokens"] == 8 * 4 * 32
    measures = tmp_path / "measures"
    measures.mkdir()
    told = language_measures.measure(rung(family), ground(folders, tmp_path), out, measures)
    kept = read_json(measures / "metrics.json")
    scored = {name for name, figure in kept.items() if isinstance(figure, dict)}
    assert scored == set(FIGURES["language"]) - {"senses_right"}, "of the world"
    low, high = kept["perplexity_per_word"]["interval"]
    assert low < told["perplexity_per_word"] < high
    assert told["ratio"] > 1, "nobody is better than the grammar itself"
    found = read_json(measures / "reach.json")
    assert found["gradient"][0]["score"] == pytest.approx(1)
    assert (measures / "neighbours.json").is_file(), "its page has a table of them"
    if family == "ngram":  # which sees three tokens
        seen = [d <= 3 for d in found["distances"]]
        for kind in ("gradient", "memory"):
            assert [one["score"] > 0 for one in found[kind]] == seen


def test_reach_is_measured_on_what_is_read(folders):
    """A model that copies the token three places back is seen to look there, and nowhere else."""

    class Copier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(40, 40)
            torch.nn.init.eye_(self.embedding.weight)

        def get_input_embeddings(self):
            return self.embedding

    from components.evaluation.document_nats import Reader

    model = Copier()

    def logits(ids):
        vectors = model.embedding(ids)
        return torch.nn.functional.pad(vectors, (0, 0, 2, 0))[:, : ids.shape[1]] * 5

    documents = [np.random.default_rng(0).integers(40, size=400).tolist()]
    # the nearest token has no gradient, so that the ratio to it is huge where there is one
    found = reach.measure(model, Reader(logits, None, 40), documents, 32)
    at = found["distances"].index(3)
    assert [one["score"] > 0 for one in found["gradient"]] == [
        n == at for n in range(len(found["distances"]))
    ]
    assert found["memory"][at]["score"] > 0.1
    few = [np.random.default_rng(0).integers(2, size=400).tolist()]
    always = reach.measure(model, Reader(logits, None, 40), few, 32)["memory"][at]
    assert np.ptp([always["score"], *always["interval"]]) < 1e-5, "never exchanged for itself"
    assert sum(one["score"] for one in found["memory"]) == found["memory"][at]["score"]


def test_sums_are_right_where_every_token_of_the_answer_is(folders):
    engine = open_engine(folders / "vocabulary")
    end, test = engine.token_to_id(END), folders / "stories" / "test.jsonl"
    table = {}
    for row in read_jsonl(test):
        question, answer = row["text"].split("\n")[0], row["text"].rpartition("####")[2]
        ids = [end, *engine.encode(f"{question}\n####").ids, *engine.encode(answer).ids, end]
        for place in range(1, len(ids)):
            table[tuple(ids[:place])] = ids[place]

    def logits(ids, off=0):
        made = torch.zeros(*ids.shape, engine.get_vocab_size())
        for row, read in enumerate(ids.tolist()):
            for place in range(len(read)):
                told = table.get(tuple(read[: place + 1]))
                if told is not None:
                    made[row, place, told + off] = 50.0
        return made

    from components.evaluation.document_nats import Reader

    right = arithmetic.solve(Reader(logits, None, 400), engine, end, test)
    assert right["all"]["exact_match"]["score"] == 1 and right["all"]["nats"]["score"] < 1e-3
    wrong = arithmetic.solve(Reader(lambda ids: logits(ids, 1), None, 400), engine, end, test)
    assert wrong["all"]["exact_match"]["score"] == 0 and wrong["all"]["nats"]["score"] > 10
    assert set(right["by_steps"]) == {"1", "2", "3", "4"}
    assert sum(group["n"] for group in right["by_steps"].values()) == right["all"]["n"]
    assert (
        arithmetic.solve(Reader(logits, None, 400), engine, end, folders / "world/test.jsonl")
        is None
    )
