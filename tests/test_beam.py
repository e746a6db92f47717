"""Greedy and beam search, held against each other and against all sentences there are."""

from itertools import product

import pytest
import torch

from components.models.beam import beam_search, greedy, normaliser
from components.models.seq2seq import Seq2Seq
from components.models.transformer import Transformer

PAD, END = 0, 1
LONGEST = 9


def seq2seq(attention: str = "additive", vocabulary: int = 12) -> Seq2Seq:
    torch.manual_seed(3)
    model = Seq2Seq(vocabulary, PAD, 16, 2, 0.1, attention).eval()
    torch.nn.init.normal_(model.embedding.weight, std=1.5)  # far from uniform, so that order counts
    return model


def transformer(vocabulary: int = 12) -> Transformer:
    torch.manual_seed(4)
    model = Transformer(vocabulary, PAD, 16, 2, 4, 32, 0.1, longest=24).eval()
    torch.nn.init.normal_(model.embedding.weight, std=1.0)
    return model


MODELS = {"seq2seq": seq2seq, "transformer": transformer}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest):
    return MODELS[request.param]()


def sources(vocabulary: int = 12) -> list[list[int]]:
    draw = torch.Generator().manual_seed(0)
    lengths = (3, 7, 1, 5, 4, 6)
    return [[*torch.randint(2, vocabulary, (n,), generator=draw).tolist(), END] for n in lengths]


def padded(rows: list[list[int]]) -> torch.Tensor:
    most = max(map(len, rows))
    return torch.tensor([row + [PAD] * (most - len(row)) for row in rows])


def test_a_beam_of_one_is_greedy(model):
    source = padded(sources())
    found = greedy(model, source, END, LONGEST)
    assert found == beam_search(model, source, END, LONGEST, width=1, penalty=0.0)
    assert len({tuple(row) for row in found}) > 1


@pytest.mark.parametrize("width", [1, 4])
def test_together_as_alone(model, width):
    """Padding, or a neighbour that ends earlier, must not leak into a sentence."""
    rows = sources()
    together = beam_search(model, padded(rows), END, LONGEST, width, penalty=0.6)
    alone = [
        beam_search(model, torch.tensor([row]), END, LONGEST, width, penalty=0.6)[0] for row in rows
    ]
    assert together == alone


def score(model, source: list[int], target: list[int], penalty: float) -> float:
    """Of one whole target, by teacher forcing: another way than step by step."""
    begun = torch.tensor([[END, *target[:-1]]])
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([source]), begun))[0]
    nats = logits.log_softmax(dim=-1)[range(len(target)), target].sum()
    return float(nats) / normaliser(len(target), penalty)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("name", MODELS)
def test_a_beam_of_full_width_finds_the_best_of_all_sentences(name, penalty):
    vocabulary, longest = 4, 4
    model = MODELS[name](vocabulary=vocabulary)
    source = [2, 3, 3, END]
    others = [token for token in range(vocabulary) if token != END]
    whole = [[*words, END] for n in range(longest) for words in product(others, repeat=n)]
    whole += [list(words) for words in product(others, repeat=longest)]  # cut off by `longest`
    best = max(whole, key=lambda target: score(model, source, target, penalty))
    found = beam_search(model, torch.tensor([source]), END, longest, vocabulary**longest, penalty)
    assert found == [[token for token in best if token != END]]


def test_a_wider_beam_is_no_worse_and_here_better():
    model, better = seq2seq(), 0
    for source in sources():
        rows = [
            beam_search(model, torch.tensor([source]), END, LONGEST, width, penalty=0.0)[0]
            for width in (1, 8)
        ]
        ended = [row + [END] * (len(row) < LONGEST) for row in rows]
        narrow, wide = (score(model, source, row, 0.0) for row in ended)
        assert wide >= narrow - 1e-5
        better += wide > narrow + 1e-5
    assert better


def test_normalised_translations_are_longer():
    """Without it each further token costs probability (Wu et al. 2016, section 7)."""
    model, source = seq2seq(), padded(sources())
    lengths = [
        sum(map(len, beam_search(model, source, END, LONGEST, 6, penalty))) for penalty in (0, 2)
    ]
    assert lengths[0] < lengths[1]
