"""The engine's parts, held against transformers: forward passes, choices of tokens, blocks."""

import threading

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from components.inference.batcher import Batcher, Limits
from components.inference.checkpoint import Unsupported, shape_of
from components.inference.choice_kernel import uniform
from components.inference.request import Choosing, GaveUp, Made, Reading, Request
from components.inference.rows import Chooser
from components.inference.store import Store
from components.inference.turns import Turns
from components.inference.weights import load
from tests.serving import paused

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.2,  # or all logits are alike
}
THETA = {"rope_theta": 10000.0, "original_max_position_embeddings": 48}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
FAMILIES = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "biased": LlamaConfig(**SIZES, attention_bias=True),
    "mistral": MistralConfig(**SIZES, sliding_window=None, head_dim=16),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "llama3": LlamaConfig(**SIZES, rope_parameters=LLAMA3 | THETA),
    "linear": LlamaConfig(
        **SIZES, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}
    ),
    "yarn": LlamaConfig(
        **SIZES, rope_parameters=THETA | {"rope_type": "yarn", "factor": 2.0}
    ),
}  # fmt: skip
NEVER: frozenset[int] = frozenset()  # no token ends an answer
LIMITS = Limits(rows=4, chunk=12, pool_bytes=1 << 19)


def answer_of(request: Request) -> list:
    """What a request made, to its end."""
    made = []
    while (told := request.answers.get(timeout=30)) is not None:
        if isinstance(told, Exception):
            raise told
        made.append(told)
    return made


@pytest.fixture
def batcher_of(tmp_path):
    """Makes a batcher and transformers' model of a config, random weights the same."""
    made = []

    def make(config, limits=LIMITS, precision="float32"):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        for name, values in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(values, std=0.1)
        model.save_pretrained(tmp_path)
        made.append(Batcher(load(tmp_path, precision), limits, Turns()))
        return made[-1], model

    yield make
    for batcher in made:
        batcher.close()
        batcher.turns.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_and_logits_are_those_of_transformers(batcher_of, family):
    batcher, model = batcher_of(FAMILIES[family])
    random = np.random.default_rng(1)
    prompts = [random.integers(0, 300, size).tolist() for size in (1, 7, 30, 60, 33, 16)]
    prompts.append([*prompts[3][:40], 5])  # begins like another
    asked = [batcher.submit(Request(ids, Choosing(20, NEVER))) for ids in prompts]
    for ids, request in zip(prompts, asked, strict=True):
        with torch.no_grad():
            made = model.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            expected = model(made[:, :-1]).logits[0, len(ids) - 1 :].log_softmax(-1)
        found = answer_of(request)
        assert [token.token for token in found] == made[0, len(ids) :].tolist()
        for token, row in zip(found, expected, strict=True):
            assert token.logprob == pytest.approx(row[token.token].item(), abs=1e-4)
    read = batcher.submit(Request(prompts[2], Reading([0, 29], batcher.decoder.logits)))
    with torch.no_grad():
        expected = model(torch.tensor([prompts[2]])).logits[0, [0, 29]]
    assert (read.answers.get(timeout=30) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["llama", "biased"])
def test_bfloat16_says_what_rounded_weights_say(batcher_of, family):
    """Held against transformers with the same weights, itself in float32."""
    batcher, model = batcher_of(FAMILIES[family], precision="bfloat16")
    for name, values in model.named_parameters():
        if name.endswith("proj.weight") or name.startswith("lm_head"):
            values.data = values.data.bfloat16().float()
    if model.config.tie_word_embeddings:  # read as they are, and rounded only as the output layer
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.bfloat16().float())
    product = batcher.decoder.weights.layers[1].products["down"]
    assert torch.equal(product.weight.t(), model.model.layers[1].mlp.down_proj.weight)
    ids = np.random.default_rng(1).integers(0, 300, 40).tolist()
    read = batcher.submit(Request(ids, Reading(range(40), batcher.decoder.logits)))
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0]
    off = (read.answers.get(timeout=30) - expected).abs()
    assert 0 < off.mean() < 0.02 * expected.std()


def test_a_precision_that_the_machine_lacks_is_refused(batcher_of):
    with pytest.raises(ValueError, match="precision int4: this machine's products are of float32"):
        batcher_of(FAMILIES["llama"], precision="int4")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (GPT2Config(), "model_type 'gpt2' is none of llama"),
        (MistralConfig(**SIZES, sliding_window=32), "sliding_window 32 is shorter"),
        (LlamaConfig(**SIZES, hidden_act="gelu"), "hidden_act 'gelu'"),
    ],
)
def test_what_it_cannot_run_is_refused_by_name(config, said):
    with pytest.raises(Unsupported, match=said):
        shape_of(config)


def test_a_scaling_that_changes_with_the_request_is_refused(batcher_of):
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    with pytest.raises(Unsupported, match="rope_type 'dynamic' changes"):
        batcher_of(LlamaConfig(**SIZES, rope_parameters=scaled))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.6, "top_k": 9},
        {"top_p": 0.7},
        {"min_p": 0.2, "temperature": 1.7},
        {"penalty": 1.8, "temperature": 0.0},
        {"penalty": 1.4, "temperature": 0.8, "top_k": 20, "top_p": 0.8, "min_p": 0.05},
    ],
)
def test_tokens_are_drawn_from_the_distribution_of_transformers(settings):
    """At the same point of the cumulated distribution; so exactly, not on average."""
    chosen = Choosing(1, NEVER, **({"temperature": 1.0} | settings))
    processors = LogitsProcessorList()
    if chosen.penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(chosen.penalty))
    if chosen.temperature:
        processors.append(TemperatureLogitsWarper(chosen.temperature))
    if chosen.top_k:
        processors.append(TopKLogitsWarper(chosen.top_k))
    if chosen.top_p < 1:
        processors.append(TopPLogitsWarper(chosen.top_p))
    if chosen.min_p:
        processors.append(MinPLogitsWarper(chosen.min_p))
    size, rows = 500, 3
    chooser = Chooser(torch.zeros(rows, size))
    logits = torch.randn(rows, size, generator=torch.Generator().manual_seed(3)) * 2
    seen = torch.tensor([[4, 4, 17], [1, 2, 3], [499, 0, 7]])
    for row in range(rows):
        chooser.admit(row, seen[row].numpy(), Choosing(**vars(chosen) | {"seed": 2**63 + row}))
    for step in range(40):
        chooser.logits(rows).copy_(logits)
        history = chooser.seen.copy()
        chooser.choose(np.arange(rows, dtype=np.int32))
        for row in range(rows):
            known = torch.tensor([np.flatnonzero(history[row])])
            shares = processors(known, logits[row : row + 1].clone())[0].double().softmax(0)
            drawn = int((shares.cumsum(0) < uniform(2**63 + row, step)).sum())
            expected = drawn if chosen.temperature else int(shares.argmax())
            assert chooser.tokens[row] == expected
            told = logits[row].log_softmax(0)[expected].item()
            assert chooser.logprobs[row] == pytest.approx(told, abs=1e-4)


def test_a_text_does_not_depend_on_its_neighbours(batcher_of):
    batcher, _ = batcher_of(FAMILIES["llama"])
    random = np.random.default_rng(2)
    asked = []
    for number in range(24):
        ids = random.integers(0, 300, random.integers(1, 50)).tolist()
        how = Choosing(int(random.integers(1, 30)), NEVER, 1.0, 0.9, 40, 0.01, 1.1, seed=number)
        asked.append((ids, how))
    together = [batcher.submit(Request(*one)) for one in asked]
    mixed = [[token.token for token in answer_of(request)] for request in together]
    batcher.pool.forget()
    alone = [
        [token.token for token in answer_of(batcher.submit(Request(*one)))] for one in asked[::-1]
    ]
    assert alone[::-1] == mixed


def test_alternatives_are_the_likeliest_tokens(batcher_of):
    batcher, model = batcher_of(FAMILIES["llama"])
    found = answer_of(batcher.submit(Request([3, 4], Choosing(1, NEVER, top=3))))[0]
    with torch.no_grad():
        expected = model(torch.tensor([[3, 4]])).logits[0, -1].log_softmax(0).topk(3)
    assert list(found.alternatives) == expected.indices.tolist()
    assert list(found.alternatives.values()) == pytest.approx(expected.values.tolist(), abs=1e-4)


PROMPT = list(range(40))


def read_of(batcher: Batcher, **asked) -> int:
    """How many positions of `PROMPT` had to be computed."""
    before = batcher.pool.misses
    answer_of(batcher.submit(Request(PROMPT, Choosing(2, NEVER), **asked)))
    return batcher.pool.misses - before


def test_equal_beginnings_are_computed_once_and_never_across_tenants(batcher_of):
    batcher, _ = batcher_of(FAMILIES["llama"])
    assert read_of(batcher, tenant="a") == 40
    assert read_of(batcher, tenant="a") == 8  # two whole blocks are known
    assert read_of(batcher, tenant="b") == 40
    assert read_of(batcher, tenant="a", root=b"under a delta") == 40
    batcher.pool.forget()
    assert read_of(batcher, tenant="a") == 40


def test_a_templates_head_is_computed_once_for_all_tenants(batcher_of):
    """To its last token, though that lies within a block."""
    batcher, _ = batcher_of(FAMILIES["llama"])
    assert read_of(batcher, tenant="a", shared=21) == 40
    assert read_of(batcher, tenant="b", shared=21) == 19
    assert read_of(batcher, tenant="b", shared=21) == 8  # and the rest within the tenant


def test_simultaneous_requests_wait_for_the_one_that_reads_their_beginning(batcher_of):
    batcher, _ = batcher_of(FAMILIES["llama"])
    with paused(batcher.turns):  # all are there before the first step
        asked = [batcher.submit(Request(PROMPT, Choosing(3, NEVER))) for _ in range(4)]
    found = [[token.token for token in answer_of(request)] for request in asked]
    assert found == found[:1] * 4
    assert batcher.pool.misses <= 40 + 3 * 8


def test_a_full_pool_makes_requests_wait_and_forgets_what_none_uses(batcher_of):
    block = Store.bytes_of_block(shape_of(FAMILIES["llama"]))
    batcher, model = batcher_of(FAMILIES["llama"], Limits(rows=4, chunk=64, pool_bytes=6 * block))
    random = np.random.default_rng(4)
    prompts = [random.integers(0, 300, 40).tolist() for _ in range(9)]  # three blocks each
    asked = [batcher.submit(Request(ids, Choosing(8, NEVER))) for ids in prompts]
    for ids, request in zip(prompts, asked, strict=True):
        made = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, 40, dtype=torch.long),
            max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        assert [token.token for token in answer_of(request)] == made[0, 40:].tolist()
    assert batcher.pool.evictions and batcher.pool.available() == batcher.pool.blocks == 6
    with pytest.raises(ValueError, match="90 tokens and 20 to write need 7 blocks; the pool has 6"):
        batcher.submit(Request(list(range(90)), Choosing(20, NEVER)))


def test_a_request_that_is_let_go_frees_its_blocks(batcher_of):
    batcher, _ = batcher_of(FAMILIES["llama"])
    running = batcher.submit(Request([1], Choosing(90, NEVER)))
    running.answers.get(timeout=30)
    batcher.cancel(running)
    while running.answers.get(timeout=30) is not None:
        pass
    assert not batcher.rows and batcher.pool.available() == batcher.pool.blocks


def test_a_reading_that_fails_fails_alone(batcher_of):
    batcher, _ = batcher_of(FAMILIES["llama"])
    running = batcher.submit(Request([1], Choosing(60, NEVER)))
    broken = batcher.submit(Request([1, 2], Reading([1], lambda features: features @ 3)))
    assert isinstance(broken.answers.get(timeout=30), Exception)
    assert len(answer_of(running)) == 60


class Failing:
    """Lets any token come, and fails at the fifth call of `mask` or `take`."""

    def __init__(self, where: str) -> None:
        self.where, self.calls = where, 0

    def mask(self, words: np.ndarray) -> None:
        words[:] = -1
        self._act("mask")

    def take(self, token: int) -> None:
        self._act("take")

    def _act(self, name: str) -> None:
        self.calls += name == self.where
        if self.calls == 5:
            raise GaveUp("too large")


@pytest.mark.parametrize("where", ["mask", "take"])
def test_a_constraint_that_fails_fails_alone(batcher_of, where):
    batcher, _ = batcher_of(FAMILIES["llama"])
    with paused(batcher.turns):  # both are there before the first step
        running = batcher.submit(Request([1], Choosing(60, NEVER)))
        held = batcher.submit(Request([1, 2], Choosing(60, NEVER, constraint=Failing(where))))
    for _ in range(4):
        assert isinstance(held.answers.get(timeout=30), Made)
    with pytest.raises(GaveUp, match="too large"):
        answer_of(held)
    assert len(answer_of(running)) == 60
    assert len(batcher._free) == 4 and batcher.pool.available() == batcher.pool.blocks


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [([1], Choosing(1, NEVER, top_k=2**63)), (list(range(90)), Choosing(40, NEVER))],
    ids=["no such number", "longer than any row"],
)
def test_a_request_that_cannot_enter_fails_alone(batcher_of, ids, wanted):
    """One with `top_k` of 2**63 once ended every row, and lost those that waited behind it."""
    batcher, _ = batcher_of(FAMILIES["llama"])
    with paused(batcher.turns):  # all are there before the first step
        running = batcher.submit(Request([1], Choosing(60, NEVER)))
        alike = [batcher.submit(Request(PROMPT, Choosing(3, NEVER))) for _ in range(2)]
        bad = batcher.submit(Request(ids, wanted))
    assert isinstance(bad.answers.get(timeout=30), Exception)
    assert len(answer_of(running)) == 60
    assert [len(answer_of(request)) for request in alike] == [3, 3]
    assert len(batcher._free) == 4 and batcher.pool.available() == batcher.pool.blocks


def test_a_number_that_is_no_token_never_reaches_a_step(batcher_of):
    """It would fail for all of its rows."""
    batcher, _ = batcher_of(FAMILIES["llama"])
    for number in (-1, 300):
        with pytest.raises(ValueError, match=f"{number} is no token: the vocabulary has 300"):
            batcher.submit(Request([1, number], Choosing(1, NEVER)))


def test_a_request_for_the_whole_pool_gives_up_the_end_that_is_kept(batcher_of):
    """A copy of its own beginning once stood in its way for ever."""
    block = Store.bytes_of_block(shape_of(FAMILIES["llama"]))
    batcher, _ = batcher_of(FAMILIES["llama"], Limits(rows=2, chunk=64, pool_bytes=4 * block))
    assert read_of(batcher, shared=21) == 40
    whole = Request(PROMPT[:30], Choosing(35, NEVER), shared=21)
    assert whole.blocks == batcher.pool.blocks
    assert len(answer_of(batcher.submit(whole))) == 35
    assert batcher.pool.available() == batcher.pool.blocks


def test_closing_fails_what_has_not_ended(batcher_of):
    batcher, _ = batcher_of(FAMILIES["llama"])
    with paused(batcher.turns):
        running = batcher.submit(Request([1], Choosing(90, NEVER)))
        threading.Thread(target=batcher.close).start()
    with pytest.raises(RuntimeError, match="the engine was closed"):
        answer_of(running)
