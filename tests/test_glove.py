"""GloVe: co-occurrences against a dense count, its steps against torch's AdaGrad, its resuming."""

from pathlib import Path

import numpy as np
import pytest
import torch

from components.models.cooccurrence import count_pairs
from components.models.embedding import Glove
from components.models.glove import TILE, GloveLearner
from components.models.glove_kernel import descend
from components.reporter import Silent
from components.training.checkpoint import WORKED, Checkpoints
from components.training.epochs import train_epochs
from components.word_text import Text

WORDS, WINDOW = 12, 3
BLOCK = Glove(family="glove", dimensions=8, window=WINDOW, epochs=3)


@pytest.fixture(scope="module")
def text() -> Text:
    """Documents of unlike lengths, an empty one and one of a single word among them."""
    random = np.random.default_rng(3)
    lengths = [0, 1, 2, 40, 0, 17, 60]
    rows = random.integers(WORDS, size=sum(lengths), dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    counts = np.bincount(rows, minlength=WORDS)
    return Text([f"w{n}" for n in range(WORDS)], counts, rows, offsets)


def dense(text: Text, window: int) -> np.ndarray:
    """X, [words, words], pair of places by pair of places."""
    found = np.zeros((WORDS, WORDS))
    for document in text.documents():
        for i, word in enumerate(document):
            for j, other in enumerate(document):
                if 0 < abs(i - j) <= window:
                    found[word, other] += 1 / abs(i - j)
    return found


def test_each_entry_is_visited_once(text: Text):
    """Words enough for several tiles, the last of them smaller than the others."""
    words = 2 * TILE + 5
    rows = np.random.default_rng(0).integers(words, size=5000, dtype=np.int32)
    many = Text([str(n) for n in range(words)], np.ones(words), rows, np.array([0, len(rows)]))
    learner = GloveLearner(BLOCK, many, seed=1)
    found = count_pairs(rows, many.offsets, words, WINDOW)
    entries = zip(learner.rows, learner.columns, learner.values, strict=True)
    expected = np.repeat(np.arange(words), np.diff(found.starts))
    assert sorted(entries) == list(zip(expected, found.columns, found.values, strict=True))


@pytest.mark.parametrize("window", [1, WINDOW, 100])
def test_co_occurrences_are_those_of_a_dense_count(text: Text, window: int):
    found = count_pairs(text.rows, text.offsets, WORDS, window)
    written = np.zeros((WORDS, WORDS))
    for row in range(WORDS):
        entries = slice(found.starts[row], found.starts[row + 1])
        assert (np.diff(found.columns[entries]) > 0).all()
        written[row, found.columns[entries]] = found.values[entries]
    expected = dense(text, window)
    np.testing.assert_allclose(written, expected, rtol=1e-6)
    assert len(found.values) == (expected > 0).sum()
    np.testing.assert_allclose(written, written.T, rtol=1e-6)


def test_the_loss_is_that_of_the_paper(text: Text):
    """A rate of 0 changes nothing, so all entries see the same vectors."""
    learner = GloveLearner(BLOCK, text, seed=1)
    (w, c), x = learner.weights.astype(np.float64), dense(text, WINDOW)
    products = w[:, :-1] @ c[:, :-1].T + w[:, -1:] + c[:, -1]
    share = np.minimum(1, (x / BLOCK.maximum) ** BLOCK.exponent)
    known = x > 0
    expected = (share[known] * (products[known] - np.log(x[known])) ** 2).sum()
    learner.block = BLOCK.model_copy(update={"learning_rate": 0.0})
    before = learner.weights.copy()
    assert learner.epoch(0)["loss"] * known.sum() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(learner.weights, before)


def test_steps_are_those_of_torch(text: Text):
    """Autograd for the gradients, `torch.optim.Adagrad` for the steps, one entry after another."""
    learner = GloveLearner(BLOCK, text, seed=2)
    weights = torch.tensor(learner.weights, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adagrad([weights], lr=0.05, initial_accumulator_value=1.0, eps=0.0)
    total = 0.0
    for entry in range(len(learner.values)):
        x = float(learner.values[entry])
        w, c = weights[0, learner.rows[entry]], weights[1, learner.columns[entry]]
        difference = w[:-1] @ c[:-1] + w[-1] + c[-1] - np.log(x)
        loss = min(1.0, (x / BLOCK.maximum) ** BLOCK.exponent) * difference**2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    found = descend(
        *(learner.rows, learner.columns, learner.values),
        *(learner.weights, learner.squares),
        *(np.float32(0.05), np.float32(BLOCK.maximum), np.float32(BLOCK.exponent)),
    )
    assert found == pytest.approx(total, rel=1e-4)
    np.testing.assert_allclose(learner.weights, weights.detach(), atol=1e-5)


class Told(Silent, dict):
    def metrics(self, values, step=0):
        self.update(values)


def test_a_run_goes_on_as_if_it_had_never_stopped(text: Text, tmp_path: Path):
    whole = GloveLearner(BLOCK, text, seed=1)
    history = train_epochs(whole, 3, Checkpoints(tmp_path / "a", "x"), Silent())
    first = GloveLearner(BLOCK, text, seed=1)
    train_epochs(first, 2, Checkpoints(tmp_path / "b", "x"), Silent())
    second = GloveLearner(BLOCK, text, seed=1)
    _, before = Checkpoints(tmp_path / "b", "x").so_far()
    told = Told()
    assert train_epochs(second, 3, Checkpoints(tmp_path / "b", "x"), told) == history
    assert before > 0 and told[WORKED] == pytest.approx(before + told["epoch_seconds"], abs=0.01)
    np.testing.assert_array_equal(second.vectors(), whole.vectors())
    assert [told["loss"] for told in history] == sorted((t["loss"] for t in history), reverse=True)
