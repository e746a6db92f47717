"""The decoder on a device: what our kernels say on the processor, it says.

Without a GPU it has tensors of the processor, and torch's operations in place of a GPU's kernels,
which `test_device_kernels.py` holds against each other.
"""

import itertools

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

pytest.importorskip("triton", reason="Triton is for Linux alone")

from components.inference import device_forward
from components.inference.attention_kernel import BLOCK
from components.inference.backend import Limits, decoder_of, device_named
from components.inference.batcher import Batcher
from components.inference.checkpoint import SITES
from components.inference.decoder import Step
from components.inference.deltas import Change, Delta
from components.inference.forms import READING, Part, form_of, forms, parts
from components.inference.request import Choosing, Reading, Request
from components.inference.rows import Chooser
from components.inference.threads import set_crew
from components.inference.turns import Turns
from components.inference.weights import Weights, assemble
from tests import device_kernels_in_torch as in_torch
from tests import mixes
from tests.test_inference import FAMILIES, NEVER, answer_of

TENSORS = pytest.param(torch.device("cpu"), id="tensors")
LIMITS = Limits(rows=6, chunk=30, pool_bytes=1 << 20, adapters=8)
GPU = pytest.param(
    torch.device("cuda"),
    id="gpu",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here"),
)


@pytest.fixture(autouse=True)
def kernels(request, monkeypatch):
    """Those of a GPU, where the test has one."""
    if getattr(request.node, "callspec", None) and "gpu" in request.node.callspec.id:
        return
    for name in ("add_and_norm", "gate", "place", "attend", "add_deltas"):
        monkeypatch.setattr(device_forward, name, getattr(in_torch, name))


@pytest.fixture(autouse=True)
def crew():
    """The kernels of a small model set the calling thread's crew to one; here that is pytest's."""
    threads = torch.get_num_threads()
    yield
    set_crew(threads)


def weights_of(family: str, device: torch.device | None, precision: str = "float32") -> Weights:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family]).eval()
    for name, values in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(values, std=0.1)
    return assemble(model.config, model.state_dict(), precision, device)


def delta(weights: Weights, seed: int, rank: int, scaled: bool) -> Delta:
    """At random, of three products in four; rank 0: scales alone."""
    random, changes = np.random.default_rng(seed), {}

    def drawn(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32) * 0.2

    for number in range(weights.shape.layers * len(SITES)):
        product = weights.layers[0].products[list(SITES)[number % len(SITES)]]
        ends, scale = (0, *product.ends), 1 + drawn(product.ends[-1]) if scaled else None
        ranks = {n: random.integers(1, rank + 1) for n in range(len(ends) - 1) if rank}
        if random.random() < 0.75:
            changes[number] = Change(
                {n: drawn(ranks[n], product.inputs) for n in ranks},
                {n: drawn(ranks[n], ends[n + 1] - ends[n]) for n in ranks},
                scale,
            )
    return Delta(changes)


class Pair:
    """The kernels' decoder and the device's, which are asked the same."""

    def __init__(self, family: str, device: torch.device) -> None:
        self.both = [decoder_of(weights_of(family, where), LIMITS) for where in (None, device)]
        kinds = ((3, False), (5, True), (0, True), (20, False))
        for decoder in self.both:
            for seed, kind in enumerate(kinds):
                assert decoder.slots.put(delta(self.both[0].weights, seed, *kind)) == seed + 1

    def seat(self, row: int, blocks: list[int]) -> None:
        for decoder in self.both:
            decoder.pool.tables[row, : len(blocks)] = blocks

    def hidden(self, step: Step) -> None:
        kernels, device = (decoder.hidden(step)[: len(step.wanted)] for decoder in self.both)
        torch.testing.assert_close(device.float().cpu(), kernels, atol=1e-4, rtol=1e-4)


def some_step(random: np.random.Generator, read: list[int], soft: np.ndarray) -> Step:
    """Some rows, of which some read up to 7 tokens and others one; row 5 begins with `soft`."""
    chosen = [n for n in random.permutation(len(read)) if random.random() < 0.8 and read[n] < 80]
    counts = [int(random.integers(1, 8)) if random.random() < 0.4 else 1 for _ in chosen]
    rows = np.repeat(np.array(chosen, np.int32), counts)
    positions = [np.arange(read[n], read[n] + c) for n, c in zip(chosen, counts, strict=True)]
    vectors, place = [], 0
    for row, count in zip(chosen, counts, strict=True):
        if row == 5 and read[row] < len(soft):
            vectors.append((place, soft[read[row] : read[row] + count]))
        read[row] += count
        place += count
    return Step(
        random.integers(0, 300, len(rows)).astype(np.int32),
        rows,
        np.concatenate([*positions, []]).astype(np.int32),
        np.array([0, 1, 2, 3, 4, 1], np.int32)[rows],
        np.flatnonzero(random.random(len(rows)) < 0.6).astype(np.int32),
        vectors,
    )


@pytest.mark.parametrize("device", [TENSORS, GPU])
@pytest.mark.parametrize("family", ["llama", "biased", "qwen3", "yarn"])
def test_features_are_those_of_the_kernels(family, device):
    """Rows with and without deltas of all kinds, a soft prompt, a prefix, a shared beginning."""
    random, pair = np.random.default_rng(1), Pair(family, device)
    shape = pair.both[0].weights.shape
    for row in range(6):
        pair.seat(row, list(range(row * 6, row * 6 + 6)))
    past = random.normal(size=(shape.layers, 2, shape.key_heads, 5, shape.size))
    for decoder in pair.both:  # row 4 stands behind a prefix, and row 3 behind a copy of it
        decoder.pool.store.write(4 * 6, past.astype(np.float32))
        decoder.pool.store.copy(4 * 6, 3 * 6)
    first, none = np.arange(2 * BLOCK, dtype=np.int32), np.zeros(2 * BLOCK, np.int32)
    pair.hidden(Step(first, none, first, none, first[-1:], []))
    pair.seat(1, [0, 1, *range(8, 12)])  # row 1 begins as row 0 did
    read = [2 * BLOCK, 2 * BLOCK, 0, 5, 5, 0]
    soft = random.normal(size=(9, shape.width)).astype(np.float32)
    for _ in range(12):
        step = some_step(random, read, soft)
        if len(step.wanted):
            pair.hidden(step)
    writes = np.arange(6, dtype=np.int32)
    last = np.array(read, np.int32)
    pair.hidden(Step(writes, writes, last, np.array([4, 3, 2, 1, 0, 4], np.int32), writes, []))


def test_a_slot_that_has_another_delta_is_read_anew():
    pair = Pair("llama", torch.device("cpu"))
    pair.seat(0, [0])
    nought = np.zeros(1, np.int32)
    for turn in range(3):
        pair.hidden(Step(nought, nought, nought, nought + 4, nought, []))
        for decoder in pair.both:
            decoder.slots.drop(4)
            assert decoder.slots.put(delta(decoder.weights, 9 + turn, 6 + turn, True)) == 4


def test_a_pass_may_be_run_again():
    """As it is when a graph is captured of it."""
    pair = Pair("llama", torch.device("cpu"))
    forward = pair.both[1]._forward
    pair.both[1]._run = lambda form: [forward(form) for _ in range(2)]
    pair.seat(0, [0, 1])
    places, nought = np.arange(20, dtype=np.int32), np.zeros(20, np.int32)
    pair.hidden(Step(places, nought, places, nought + 2, places, []))


def test_a_step_is_split_into_rows_that_write_and_rows_that_read():
    rows = np.array([3, 1, 2, 4, 4, 4, 5, 5, 0, 6, 6, *[7] * 17])
    found = [(part.first, part.counts) for part in parts(rows, 128)]
    assert found == [(0, (1, 1, 1)), (3, (3, 2)), (8, (1,)), (9, (2,)), (11, (17,))]
    assert next(parts(rows[3:8], 128)).real(4).tolist() == [0, 1, 2, 4, 5]


def test_every_step_of_a_base_has_a_form_that_was_captured():
    rows, most, captured = 6, 128, set(forms(6, 128))
    counts = itertools.chain(
        ((1,) * n for n in range(1, rows + 1)),
        ((n,) for n in range(2, most + 1)),
        ((n,) * 2 for n in range(2, most // READING + 1)),
    )
    made = {form_of(Part(0, found), 0) for found in counts}
    assert made == captured


@pytest.mark.parametrize("device", [TENSORS, GPU])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_the_kernels(family, device):
    random, said = np.random.default_rng(1), []
    prompts = [random.integers(0, 300, size).tolist() for size in (1, 7, 30, 60, 33, 16)]
    prompts.append([*prompts[3][:40], 5])  # begins like another
    for where in (None, device):
        batcher = Batcher(weights_of(family, where), LIMITS, Turns())
        asked = [batcher.submit(Request(ids, Choosing(20, NEVER))) for ids in prompts]
        said.append([[made.token for made in answer_of(request)] for request in asked])
        batcher.close()
        batcher.turns.close()
    assert said[0] == said[1]


@pytest.mark.parametrize("device", [TENSORS, GPU])
def test_bfloat16_says_nearly_the_same(device):
    ids, said = np.random.default_rng(1).integers(0, 300, 40).tolist(), []
    for where, precision in ((None, "float32"), (device, "bfloat16")):
        batcher = Batcher(weights_of("llama", where, precision), LIMITS, Turns())
        asked = batcher.submit(Request(ids, Reading(range(40), batcher.decoder.logits)))
        said.append(asked.answers.get(timeout=30))
        batcher.close()
        batcher.turns.close()
    off = (said[0] - said[1]).abs()
    assert 0 < off.mean() < 0.03 * said[0].std()


@pytest.mark.parametrize("device", [TENSORS, GPU])
def test_mixes_are_what_transformers_and_peft_say_alone(folders, tmp_path, device):
    """As `test_engine` asks of the kernels."""
    told = mixes.check(mixes.more_folders(folders, tmp_path), 20, seed=7, device=device)
    assert told["blocks_evicted"] and told["adapters_evicted"]


def test_tokens_are_chosen_by_no_more_threads_than_there_is_room_for(monkeypatch):
    """A batcher's thread may have more than the one that made it."""
    set_crew(1)
    chooser, asked = Chooser(torch.zeros(2, 300)), []
    set_crew(2)
    monkeypatch.setattr(chooser, "_choose", lambda _, threads: asked.append(threads))
    chooser.choose(np.zeros(1, np.int32))
    assert asked == [1] and len(chooser._weights) == 1


def test_a_device_is_named():
    assert device_named("cpu") is None
    if not torch.cuda.is_available():
        assert device_named("auto") is None
        with pytest.raises(ValueError, match="device cuda: torch finds no GPU here"):
            device_named("cuda")
