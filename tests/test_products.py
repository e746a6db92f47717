"""The products of a decoder on the processor, held against PyTorch's own."""

import pytest
import torch

from components.inference.product import (
    BFLOAT16,
    FLOAT32,
    MANY,
    Both,
    Packed,
    Panels,
    Product,
    product,
)
from components.inference.registers import LANES
from components.inference.threads import set_crew
from components.inference.tiles import WIDEST

TOKENS = (1, 2, 3, 5, 8, 15, 16, 17, 31, 40)
SHAPES = ((64, 48), (80, 33), (256, 1024), (16, 2048))  # outputs, inputs; the last two are turned


@pytest.fixture(params=[1, 2, 3])
def crew(request):
    set_crew(request.param)
    yield
    set_crew(torch.get_num_threads())


@pytest.mark.usefixtures("crew")
@pytest.mark.parametrize("shape", SHAPES)
def test_panels_are_pytorchs(shape):
    torch.manual_seed(0)
    matrix, bias = torch.randn(shape), torch.randn(shape[0])
    held = Panels.of(matrix, bias, (shape[0],))
    assert held.inputs == shape[1] and torch.equal(held.weight, matrix.t())
    for tokens in TOKENS:
        x, out = torch.randn(tokens, shape[1]), torch.full((tokens + 1, shape[0]), 7.0)
        held.into(x, out[:tokens])
        torch.testing.assert_close(out[:tokens], x @ matrix.t() + bias, atol=1e-3, rtol=1e-4)
        assert (out[tokens] == 7).all()


@pytest.mark.usefixtures("crew")
@pytest.mark.parametrize("shape", SHAPES)
def test_rounded_panels_read_and_give_rounded_numbers(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape).bfloat16()
    held = Panels.of(matrix, None, (shape[0],))
    assert torch.equal(held.weight, matrix.t().float())
    for tokens in TOKENS:
        x, out = torch.randn(tokens, shape[1]), torch.empty(tokens, shape[0])
        held.into(x, out)
        assert torch.equal(out, out.bfloat16().float())
        exact = x.bfloat16().float() @ matrix.t().float()
        torch.testing.assert_close(out, exact, atol=1e-3, rtol=2**-8)
        near = (out == exact.bfloat16().float()).float().mean()
        assert near > 0.97  # the others were between two, and summed in another order


@pytest.mark.usefixtures("crew")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_panels_say_of_a_token_does_not_depend_on_its_neighbours(shape, dtype):
    """To the last bit: every sum goes through the inputs in their order."""
    torch.manual_seed(1)
    held = Panels.of(torch.randn(shape, dtype=dtype), None, (shape[0],))
    x = torch.randn(max(TOKENS), shape[1])
    every = torch.empty(len(x), shape[0])
    held.into(x, every)
    for tokens in TOKENS:
        some = torch.empty(tokens, shape[0])
        held.into(x[-tokens:], some)
        assert torch.equal(some, every[-tokens:])


def test_float32_has_panels_where_registers_are_wide_enough():
    matrix = torch.randn(3 * LANES, 8)
    kind = Panels if WIDEST else Packed if torch.backends.mkldnn.is_available() else Product
    assert type(product([matrix, matrix], [None, None], FLOAT32, None)) is kind
    assert type(product([matrix[1:]], [None], FLOAT32, None)) is not Panels


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no such products")
def test_rounded_products_of_few_and_of_many_tokens_are_nearly_the_same():
    matrix, bias = torch.randn(3 * LANES, 64), torch.randn(3 * LANES)
    held = product([matrix], [bias], BFLOAT16, None)
    assert type(held) is (Both if WIDEST else Packed)
    x = torch.randn(MANY, 64)
    many, few = torch.empty(MANY, 3 * LANES), torch.empty(MANY - 1, 3 * LANES)
    held.into(x, many)
    held.into(x[1:], few)
    torch.testing.assert_close(few, many[1:], atol=1e-2, rtol=2**-7)
    assert held.inputs == 64 and held.ends == (3 * LANES,)
    assert torch.equal(held.weight, matrix.bfloat16().float().t())


@pytest.mark.parametrize("kind", ["panels", "packed", "product"])
def test_biases_of_some_matrices_are_added(kind, monkeypatch):
    monkeypatch.setattr("components.inference.product.WIDEST", kind == "panels")
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: kind == "packed")
    one, two, bias = torch.randn(16, 24), torch.randn(32, 24), torch.randn(32)
    held = product([one, two], [None, bias], FLOAT32, None)
    x, out = torch.randn(5, 24), torch.empty(5, 48)
    held.into(x, out)
    torch.testing.assert_close(out[:, :16], x @ one.t(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out[:, 16:], x @ two.t() + bias, atol=1e-4, rtol=1e-4)
    assert held.ends == (16, 48)
