"""The encoder-decoder LSTM: attention by hand, steps against the whole, and padding."""

import pytest
import torch

from components.models.attention import AdditiveAttention, MultiplicativeAttention, read
from components.models.seq2seq import Seq2Seq

PAD, WIDTH, VOCABULARY = 0, 12, 20
KINDS = ("none", "additive", "multiplicative")


def build(attention: str, layers: int = 2) -> Seq2Seq:
    torch.manual_seed(5)
    return Seq2Seq(VOCABULARY, PAD, WIDTH, layers, 0.2, attention).eval()


@pytest.fixture(scope="module")
def sentences() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    source, target = (torch.randint(1, VOCABULARY, (3, n)) for n in (6, 5))
    source[2, 3:] = PAD
    return source, target


def test_scores_are_the_papers_formulas():
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 3, WIDTH), torch.randn(2, 4, WIDTH)
    additive, multiplicative = AdditiveAttention(WIDTH), MultiplicativeAttention(WIDTH)
    for b, t, s in ((0, 0, 0), (1, 2, 3)):
        query, key = queries[b, t], keys[b, s]
        energy = torch.tanh(additive.query.weight @ query + additive.key.weight @ key)
        torch.testing.assert_close(
            additive(queries, keys)[b, t, s], additive.score.weight[0] @ energy
        )
        product = query @ (multiplicative.key.weight @ key)
        torch.testing.assert_close(multiplicative(queries, keys)[b, t, s], product)


def test_what_is_masked_is_not_read():
    scores, values = torch.tensor([[[0.0, 100.0]]]), torch.tensor([[[1.0], [7.0]]])
    context, weights = read(scores, values, torch.tensor([[[True, False]]]))
    assert context.item() == 1.0 and weights.tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize("attention", KINDS)
@torch.no_grad()
def test_step_by_step_as_all_at_once(attention, sentences):
    model, (source, target) = build(attention), sentences
    whole = model.logits(model(source, target))
    state = model.start(source)
    for place in range(target.shape[1]):
        logits, state = model.step(target[:, place], state)
        torch.testing.assert_close(logits, whole[:, place], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", KINDS)
@torch.no_grad()
def test_padding_changes_nothing(attention, sentences):
    """An encoder that read padding from the right would begin with it."""
    model, (source, target) = build(attention), sentences
    alone = model(source[2:, :3], target[2:])
    torch.testing.assert_close(model(source, target)[2:], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_attention_all_passes_through_one_vector(sentences):
    """The decoder depends on the source by hidden and cell state alone; with attention it reads."""
    source, target = sentences
    for attention in KINDS:
        model = build(attention)
        states, mask, hidden, cell = model.start(source)
        other = model._decode(target, (torch.randn_like(states), mask, hidden, cell))[0]
        same = torch.equal(other, model(source, target))
        assert same == (attention == "none")


@torch.no_grad()
def test_the_encoder_is_two_lstms_each_way(sentences):
    source, _ = sentences
    model = build("additive", layers=1)
    states, mask, hidden, _ = model.start(source)
    embedded, lstm = model._embed(source), model.encoder.lstm
    half = WIDTH // 2
    for way, suffix in enumerate(("", "_reverse")):
        one = torch.nn.LSTM(WIDTH, half, batch_first=True)
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(one, name).data = getattr(lstm, name + suffix).data
        sentence = embedded[2:, :3].flip(1) if way else embedded[2:, :3]
        expected, (last, _) = one(sentence)
        expected = expected.flip(1) if way else expected
        part = slice(way * half, (way + 1) * half)
        torch.testing.assert_close(states[2:, :3, part], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(hidden[2, 0, part], last[0, 0], rtol=1e-4, atol=1e-6)
    assert not mask[2, 3:].any()
    torch.testing.assert_close(model.sentence_vectors(source), hidden[:, -1])


@torch.no_grad()
def test_alignments_are_weights_where_there_is_attention(sentences):
    source, target = sentences
    assert build("none").alignment(source, target) is None
    weights = build("multiplicative").alignment(source, target)
    assert weights.shape == (3, 1, 5, 6)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 1, 5))
    assert (weights[2, ..., 3:] == 0).all()
