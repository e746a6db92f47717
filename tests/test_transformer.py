"""The Transformer, held against torch's own with the same weights, layer by layer."""

import math

import pytest
import torch

from components.models.transformer import Transformer, positional_encoding

PAD, END = 0, 1
WIDTH, HEADS, INNER, LAYERS, VOCABULARY = 24, 4, 40, 3, 30


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(VOCABULARY, PAD, WIDTH, LAYERS, HEADS, INNER, 0.1, longest=20).eval()
    for parameter in model.parameters():  # biases and gains too, which begin as 0 and 1
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1) * 0.5, std=0.3)
    return model


@pytest.fixture(scope="module")
def twin(model: Transformer) -> torch.nn.Transformer:
    """torch's, with the weights of ours."""
    twin = torch.nn.Transformer(WIDTH, HEADS, LAYERS, LAYERS, INNER, 0.0, batch_first=True).eval()
    twin.encoder.norm = twin.decoder.norm = None  # torch adds one that the paper has not
    pairs = [
        *zip(model.encoder, twin.encoder.layers, strict=True),
        *zip(model.decoder, twin.decoder.layers, strict=True),
    ]
    for ours, theirs in pairs:
        copy_attention(ours.attention, theirs.self_attn)
        if hasattr(theirs, "multihead_attn"):
            copy_attention(ours.source_attention, theirs.multihead_attn)
        theirs.linear1.load_state_dict(ours.feed_forward[0].state_dict())
        theirs.linear2.load_state_dict(ours.feed_forward[2].state_dict())
        for number, norm in enumerate(ours.norms, 1):
            getattr(theirs, f"norm{number}").load_state_dict(norm.state_dict())
    return twin


def copy_attention(ours, theirs: torch.nn.MultiheadAttention) -> None:
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.data = torch.cat([part.weight for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias for part in parts])
    theirs.out_proj.load_state_dict(ours.out.state_dict())


@pytest.fixture(scope="module")
def sentences() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    source, target = (torch.randint(2, VOCABULARY, (3, n)) for n in (7, 6))
    source[1, 4:] = PAD
    return source, target


@torch.no_grad()
def test_each_layer_of_the_encoder_is_torchs(model, twin, sentences):
    source, _ = sentences
    mask = source != PAD
    ours = theirs = model.embed(source)
    for mine, other in zip(model.encoder, twin.encoder.layers, strict=True):
        ours, _ = mine(ours, mask[:, None, None])
        theirs = other(theirs, src_key_padding_mask=~mask)
        torch.testing.assert_close(ours[mask], theirs[mask], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_each_layer_of_the_decoder_is_torchs(model, twin, sentences):
    source, target = sentences
    memory, mask, _ = model.encode(source)
    causal = torch.nn.Transformer.generate_square_subsequent_mask(target.shape[1])
    ours = theirs = model.embed(target)
    for mine, other in zip(model.decoder, twin.decoder.layers, strict=True):
        past = mine.attention.offered(ours[:, :0])
        ours, _, weights = mine(ours, past, mine.source_attention.offered(memory), mask)
        theirs = other(theirs, memory, causal, memory_key_padding_mask=source == PAD)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert (weights[1, ..., 4:] == 0).all()


@torch.no_grad()
def test_the_whole_is_torchs(model, twin, sentences):
    source, target = sentences
    theirs = twin(
        model.embed(source),
        model.embed(target),
        tgt_mask=torch.nn.Transformer.generate_square_subsequent_mask(target.shape[1]),
        src_key_padding_mask=source == PAD,
        memory_key_padding_mask=source == PAD,
    )
    torch.testing.assert_close(model(source, target), theirs, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_step_by_step_as_all_at_once(model, sentences):
    """The past that is kept for the next token holds what teacher forcing computes anew."""
    source, target = sentences
    whole = model.logits(model(source, target))
    state = model.start(source)
    for place in range(target.shape[1]):
        logits, state = model.step(target[:, place], state)
        torch.testing.assert_close(logits, whole[:, place], rtol=1e-4, atol=1e-4)


def test_positions_are_the_formulas_and_a_shift_is_a_rotation():
    encoding = positional_encoding(50, 16)
    for position, pair in ((0, 0), (3, 1), (49, 7)):
        angle = position / 10000 ** (2 * pair / 16)
        found = encoding[position, 2 * pair : 2 * pair + 2]
        torch.testing.assert_close(found, torch.tensor([math.sin(angle), math.cos(angle)]))
    products = encoding @ encoding.T  # depend on the distance alone
    torch.testing.assert_close(products[10, 14], products[30, 34])
    assert products[10, 10] == pytest.approx(8.0)


def test_a_sentence_beyond_the_positions_is_refused(model):
    with pytest.raises(ValueError, match="21 tokens, and the table of positions ends at 20"):
        model.start(torch.full((1, 21), 2))


@torch.no_grad()
def test_alignments_are_weights(model, sentences):
    source, target = sentences
    weights = model.alignment(source, target)
    assert weights.shape == (3, LAYERS, 6, 7)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, LAYERS, 6))
