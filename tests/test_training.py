"""The training engine: its identities, its choices, and what it does when something goes wrong."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM

from components.lineage import write_json
from components.models import llama
from components.reporter import Silent
from components.training import attention, devices, loop, machine, optimizers, plan, pretrain
from components.training import cross_entropy as cross_entropy_module
from components.training.batches import Batches
from components.training.checkpoint import Checkpoints
from components.training.cross_entropy import CHUNK_ELEMENTS, summed_loss
from components.training.next_token import Loss, NextToken, places
from components.training.schedule import learning_rate
from components.training.windows import Windows

CONTEXT, VOCABULARY, END = 16, 64, 0
ROOT = Path(__file__).parents[1]


def make_model(**changes) -> LlamaForCausalLM:
    torch.manual_seed(0)
    given = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "eos_token_id": END,
    }
    return LlamaForCausalLM(LlamaConfig(**{**given, **changes}))


def make_windows(count: int = 40) -> Windows:
    draw = np.random.default_rng(0)
    tokens = draw.integers(1, VOCABULARY, count * CONTEXT).astype(np.uint16)
    tokens[::7] = END
    offsets = np.append(np.flatnonzero(tokens == END), len(tokens))
    return Windows(tokens, offsets, CONTEXT, seed=1)


def make_objective(rows: int = 8, apart: bool = False) -> NextToken:
    windows = make_windows()
    return NextToken(make_model(), windows, windows.tokens[:200], rows, apart)


def make_plan(**changes) -> plan.Plan:
    given = {
        "steps": 12,
        "rows": 8,
        "learning_rate": 0.01,
        "warmup": 0.1,
        "weight_decay": 0.1,
        "clip": 1.0,
        "evaluate_every": 4,
        "checkpoint_minutes": 60.0,
        "precision": "float32",
        "seed": 3,
        "tokens": 8 * CONTEXT,
    }
    return plan.Plan(**{**given, **changes})


def run(folder, objective=None, report=None, **changes):
    objective = objective or make_objective()
    checkpoints = Checkpoints(folder, "run")
    history = loop.train(objective, make_plan(**changes), checkpoints, report or Silent())
    return history, {k: v.clone() for k, v in objective.module.model.state_dict().items()}


def equal(left, right, tolerance=0.0):
    return all(torch.allclose(left[k], right[k], rtol=0, atol=tolerance) for k in left)


class Noted(Silent):
    def __init__(self):
        self.given, self.notes, self.figures = {}, [], []

    def params(self, values):
        self.given.update(values)

    def metrics(self, values, step=0):
        self.figures.append({"step": step, **values})

    def progress(self, done, total, note=""):
        self.notes.append(note)


# -- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 700, 2 * CHUNK_ELEMENTS["cpu"] // 4096 + 3])
@pytest.mark.parametrize("fused", [False, True])
def test_the_chunked_loss_is_the_whole_one(tokens, fused, monkeypatch):
    monkeypatch.setattr(  # compiled elsewhere: here it is held that both ways come to the same
        cross_entropy_module, "_compiled", lambda: cross_entropy_module._of_logits_in_passes
    )
    torch.manual_seed(0)
    hidden = torch.randn(tokens, 24, requires_grad=True)
    weight = (0.3 * torch.randn(4096, 24)).requires_grad_()
    targets = torch.randint(0, 4096, (tokens,))
    whole = cross_entropy(hidden @ weight.T, targets, reduction="sum") / 7
    expected = torch.autograd.grad(whole, (hidden, weight))
    found = summed_loss(hidden, weight, targets, fused=fused) / 7
    given = torch.autograd.grad(found, (hidden, weight))
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-4)
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(summed_loss(hidden, weight, targets) / 7, whole)


def test_under_autocast_it_is_near():
    torch.manual_seed(0)
    hidden = torch.randn(50, 24, requires_grad=True)
    weight, targets = torch.randn(300, 24), torch.randint(0, 300, (50,))
    exact = summed_loss(hidden, weight, targets)
    with torch.autocast("cpu", torch.bfloat16):
        near = summed_loss(hidden, weight, targets)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=0.02, atol=0.1)


def test_documents_apart_are_as_alone():
    """What a token predicts depends on its own document alone."""
    model = make_model().eval()
    first, second = [END, 5, 6, 7], [END, 9, 8, 7, 6]
    packed = torch.tensor([[*first, *second, 3]])
    where = torch.from_numpy(places(packed[:, :-1].numpy(), END))
    loss = Loss(model, 1.0).eval()
    together = loss(packed, where)
    alone = loss(torch.tensor([[*first, END]])) + loss(torch.tensor([[*second, 3]]))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert not torch.isclose(loss(packed), alone, rtol=1e-3), "joined documents are seen"


# -- the batches ---------------------------------------------------------------------------------


def test_sequences_are_a_function_of_seed_and_place():
    one, other = make_windows(), make_windows()
    whole = one.rows(range(3 * one.count))
    parts = [other.rows(range(n, n + 1)) for n in reversed(range(3 * one.count))]
    assert np.array_equal(whole, np.concatenate(parts[::-1]))
    epochs = whole.reshape(3, one.count, -1)
    assert not np.array_equal(epochs[0], epochs[1]), "each epoch is cut anew"


def test_a_batch_names_its_documents():
    windows = make_windows()
    cut = windows.rows(range(1))[0]
    told = windows.documents(range(1))
    first = int(told.split()[1].split("-")[0].rstrip(","))
    begin = windows.offsets[first]
    found = [
        n
        for n in range(len(windows.tokens))
        if np.array_equal(windows.tokens[n : n + CONTEXT + 1], cut)
    ]
    assert begin <= found[0] < windows.offsets[first + 1]


@pytest.mark.parametrize(("rows", "size"), [(100, 8), (1000, 8), (5, 8), (7, 1)])
def test_an_epoch_takes_each_row_at_most_once(rows, size):
    lengths = np.random.default_rng(0).integers(1, 90, rows).tolist()
    batches = Batches(lengths, size, seed=3)
    steps = rows // batches.size
    epochs = [[batches(epoch * steps + n) for n in range(steps)] for epoch in range(3)]
    for epoch in epochs:
        taken = [row for batch in epoch for row in batch]
        assert {len(batch) for batch in epoch} == {min(size, rows)}
        assert len(set(taken)) == len(taken) > rows - size
    assert steps == 1 or epochs[0] != epochs[1]
    assert Batches(lengths, size, seed=3)(2 * steps) == epochs[2][0], "it depends on steps before"
    spread = [np.ptp([lengths[row] for row in batch]) for epoch in epochs for batch in epoch]
    assert np.mean(spread) < 0.5 * 90 or batches.size == rows, "rows of a batch differ in length"


# -- the loop ------------------------------------------------------------------------------------


def test_micro_batches_add_up(tmp_path):
    whole = run(tmp_path / "whole")
    parts = run(tmp_path / "parts", micro_rows=3)
    assert equal(whole[1], parts[1], 1e-5)
    assert whole[0][-1]["validation_loss"] == pytest.approx(
        parts[0][-1]["validation_loss"], abs=1e-5
    )


def test_the_same_seed_gives_the_same_weights(tmp_path):
    assert equal(run(tmp_path / "a")[1], run(tmp_path / "b")[1])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_interrupted_by_a_signal_it_goes_on_bit_by_bit(tmp_path, optimizer):
    expected = run(tmp_path / "whole", optimizer=optimizer)
    objective = make_objective()
    batch = objective.batch

    def interrupting(step, rows):
        if step == 5:  # drawn at the end of the step before
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(step, rows)

    objective.batch = interrupting
    with pytest.raises(loop.Interrupted, match="SIGTERM at step 5 of 12, which is kept"):
        run(tmp_path / "cut", objective, optimizer=optimizer)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    told = Noted()
    resumed = run(tmp_path / "cut", report=told, optimizer=optimizer)
    assert "resumed at step 5" in told.notes
    assert equal(expected[1], resumed[1])
    assert expected[0] == resumed[0]


def test_a_signal_in_the_last_steps_validation_stops_the_run_too(tmp_path):
    """Else whoever asked sees the next training begin, such as that of a classifier."""
    expected = run(tmp_path / "whole")
    objective = make_objective()
    validate, seen = objective.validate, []

    def interrupting():
        seen.append(1)
        if len(seen) == 3:  # after steps 4, 8 and 12
            os.kill(os.getpid(), signal.SIGTERM)
        return validate()

    objective.validate = interrupting
    with pytest.raises(loop.Interrupted, match="SIGTERM at step 12 of 12, which is kept"):
        run(tmp_path / "cut", objective)
    resumed = run(tmp_path / "cut")
    assert equal(expected[1], resumed[1]) and expected[0] == resumed[0]


def test_a_long_run_keeps_its_end_and_goes_on_from_there(tmp_path):
    """What was made of it may be lost, as DVC is killed before it has noted that."""
    expected = run(tmp_path, checkpoint_minutes=0.0)
    objective = make_objective()
    objective.batch = None  # nothing is left to train
    found = run(tmp_path, objective, checkpoint_minutes=0.0)
    assert equal(expected[1], found[1]) and expected[0] == found[0]
    run(tmp_path / "short")
    assert Checkpoints(tmp_path / "short", "run").newest() is None


def test_a_resumed_run_counts_the_seconds_since_the_last_figures(tmp_path):
    """Of a long run a hundredth of the steps, at each try."""
    objective = make_objective()
    batch = objective.batch

    def slow(step, rows):
        time.sleep(0.1)
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(step, rows)

    objective.batch = slow
    with pytest.raises(loop.Interrupted):
        run(tmp_path, objective, steps=1000, evaluate_every=500)
    _, worked = Checkpoints(tmp_path, "run").so_far()
    assert worked > 0.5


@pytest.mark.parametrize(("steps", "asked"), [(19, 10), (20, 10), (3, 10), (101, 2), (7, 1)])
def test_evaluations_are_at_most_those_asked_for(steps, asked):
    """19 steps with 10 evaluations once made 19."""
    each = plan.evaluate_every(steps, asked)
    made = [done for done in range(1, steps + 1) if done % each == 0 or done == steps]
    wanted = min(asked, steps)
    assert wanted / 2 < len(made) <= wanted


def test_memory_is_free_as_far_as_the_container_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.free_memory() > 10**7  # without a limit it is the machine's
    told = {"current": "900000\n", "stat": "anon 500000\ninactive_file 300000\n"}
    for limit, free in (("1000000\n", 400_000), ("max\n", None)):
        for name, text in {**told, "max": limit}.items():
            (tmp_path / f"memory.{name}").write_text(text)
        found = machine.free_memory()
        assert found == free if free else found > 10**7


def no_memory(_precision):
    return 0.0


def test_what_was_chosen_at_run_time_is_taken_over(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, "run")
    first = plan.choose(make_plan(micro_rows=2), 8, no_memory, 0.0, checkpoints)
    monkeypatch.setattr(machine, "resolved", lambda _: "bfloat16")
    assert plan.choose(make_plan(), 8, no_memory, 0.0, checkpoints) == first
    other = plan.choose(make_plan(), 8, no_memory, 0.0, Checkpoints(tmp_path, "another run"))
    assert (other.micro_rows, other.precision) == (8, "bfloat16")
    assert plan.choose(make_plan(), 8, no_memory, 0.0, checkpoints) == first, (
        "the settings came back"
    )


@pytest.mark.parametrize(("processes", "most"), [(1, 2), (2, 1)])
def test_the_most_sequences_that_fit(tmp_path, monkeypatch, processes, most):
    """Each of two processes on one machine took all that was free."""
    monkeypatch.setattr(machine, "free_memory", lambda: 1000)
    monkeypatch.setattr(devices, "beside", lambda: processes)
    made = plan.choose(make_plan(), 8, lambda _: 250.0, 120.0, Checkpoints(tmp_path, "run"))
    assert made.micro_rows == most  # 0.8 x 1000 - 120 bytes hold two of 250


def test_activations_that_are_made_anew_leave_room_for_more_sequences(tmp_path, monkeypatch):
    """They take time, and memory was counted as if all were kept."""
    told, objectives = [Noted(), Noted()], [make_objective(), make_objective()]
    objectives[1].module.model.activation_checkpointing_enable()
    plain, anew = (objective.row_bytes("float32") for objective in objectives)
    held = 12 * objectives[0].module.model.num_parameters() + objectives[0].step_bytes()
    monkeypatch.setattr(machine, "free_memory", lambda: (held + 8.5 * anew) / plan.ROOM)
    assert 8.5 * anew < 8 * plain
    made = [run(tmp_path / str(n), o, told[n]) for n, o in enumerate(objectives)]
    assert [given.given["micro_rows"] for given in told] == [4, 8]
    assert equal(made[0][1], made[1][1], 1e-5)


def test_out_of_memory_halves_what_is_tried_and_stays_so(tmp_path):
    expected = run(tmp_path / "small", micro_rows=2)
    objective = make_objective()
    forward = objective.module.forward

    def limited(rows, *more):
        if torch.is_grad_enabled() and len(rows) > 2:
            raise torch.OutOfMemoryError("no more")
        return forward(rows, *more)

    objective.module.forward = limited
    assert equal(run(tmp_path / "tried", objective)[1], expected[1])
    assert Checkpoints(tmp_path / "tried", "run").remembered()["halved"] == {"0": 2}


def test_a_run_that_goes_on_from_before_memory_ran_out_makes_the_same_bits(tmp_path):
    """It took the steps up to there in halves too, with other random numbers for its dropout."""

    def limited(step, **ends):
        """An objective whose memory runs out at `step`; ends: where it is killed or stopped."""
        windows = make_windows()
        model = make_model(attention_dropout=0.3)
        objective = NextToken(model, windows, windows.tokens[:200], 8, False)
        batch, forward, at = objective.batch, objective.module.forward, []

        def noting(now, rows):
            at.append(now)
            if now == ends.get("killed"):
                raise KeyboardInterrupt
            if now == ends.get("stopped"):
                os.kill(os.getpid(), signal.SIGTERM)
            return batch(now, rows)

        def running_out(rows, *more):
            if torch.is_grad_enabled() and at[-1] == step and len(rows) > 4:
                raise torch.OutOfMemoryError("no more")
            return forward(rows, *more)

        objective.batch, objective.module.forward = noting, running_out
        return objective

    expected = run(tmp_path / "whole", limited(7))
    assert not equal(expected[1], run(tmp_path / "plenty", limited(None))[1], 1e-6)
    with pytest.raises(loop.Interrupted, match="at step 4"):
        run(tmp_path / "cut", limited(7, stopped=4))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", limited(7, killed=9))
    assert Checkpoints(tmp_path / "cut", "run").remembered()["halved"] == {"7": 4}
    told = Noted()
    resumed = run(tmp_path / "cut", limited(None), told)  # this time there is room
    assert "resumed at step 4" in told.notes
    assert equal(expected[1], resumed[1]) and expected[0] == resumed[0]


def test_a_loss_that_is_no_number_names_step_documents_and_checkpoint(tmp_path):
    objective = make_objective()
    batch = objective.batch

    def breaking(step, rows):
        if step == 7:
            with torch.no_grad():
                objective.module.model.model.norm.weight.fill_(float("nan"))
        return batch(step, rows)

    objective.batch = breaking
    with pytest.raises(loop.Diverged) as told:
        run(tmp_path, objective, checkpoint_minutes=0.0)
    text = str(told.value)
    assert "the loss is nan" in text and "step 8" in text
    assert objective.windows.documents(range(7 * 8, 8 * 8)) in text
    kept = Checkpoints(tmp_path, "run").newest()
    assert str(kept) in text and kept.name.startswith("step-000000007-")


def test_it_tells_what_people_ask(tmp_path):
    told = Noted()
    run(tmp_path, report=told, flops=1e5, bytes_per_token=(4.0, 5.0), price=2.0)
    figures, price = told.figures[-2:]
    first, bits = told.figures[0], np.log(2)
    assert first["bits_per_byte"] == pytest.approx(first["loss"] / bits / 4)
    own = figures["validation_loss"] / bits / 5  # the training split's tokens are of other lengths
    assert figures["validation_bits_per_byte"] == pytest.approx(own)
    for name in ("loss", "gradient_norm", "learning_rate", "tokens_per_second", "mfu", "memory_gb"):
        assert figures[name] > 0, name
    assert "of the matrix rate" in told.notes[-1] and "left" in told.notes[-1]
    on_device = "device_hours" in price
    assert price["training_seconds"] > 0
    hours = price["device_hours"] if on_device else price["core_hours"] / torch.get_num_threads()
    assert price["cost"] == pytest.approx(2 * hours, abs=2e-5)


def test_a_block_of_pretraining_becomes_a_plan(tmp_path):
    """Keys in tokens count sequences there; each split's tokens have their own bytes."""
    counts = {"train": {"bytes": 400, "tokens": 100}, "validation": {"bytes": 500, "tokens": 100}}
    write_json(tmp_path / "tokens.json", {"splits": counts})
    sizes = {"tokens": 20 * CONTEXT, "batch_tokens": 8 * CONTEXT, "learning_rate": 0.01}
    block = pretrain.Pretrain(**sizes, micro_batch_tokens=2 * CONTEXT)
    made = pretrain._plan(block, make_model(), tmp_path)
    assert (made.steps, made.rows, made.micro_rows) == (2, 8, 2)
    assert made.bytes_per_token == (4, 5)
    assert pretrain._plan(pretrain.Pretrain(**sizes), make_model(), tmp_path).micro_rows is None
    with pytest.raises(ValueError, match=r"micro_batch_tokens 24 is no multiple of model\.context"):
        pretrain.Pretrain(**sizes, micro_batch_tokens=24).rows(CONTEXT)


def test_matrices_and_tables_decay_and_gains_and_biases_do_not():
    """Of a step without gradients the decay alone is left."""
    parts = {"table": torch.nn.Embedding(5, 4), "matrix": torch.nn.Linear(4, 4)}
    module = torch.nn.ModuleDict({**parts, "norm": torch.nn.LayerNorm(4)})
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    (adamw,) = optimizers.build("adamw", module, 0.1, 0.3)
    assert {group["betas"] for group in adamw.param_groups} == {(0.9, 0.95)}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adamw.step()
    for name, parameter in module.named_parameters():
        left = 1 - 0.1 * 0.3 if name in ("table.weight", "matrix.weight") else 1.0
        torch.testing.assert_close(parameter.detach(), left * before[name])


@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_matrices_of_layers_alone(tied):
    """Embeddings and output matrix are rows, not maps; gains and biases are no matrices."""
    model = make_model(tie_word_embeddings=tied, attention_bias=True)
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adamw = optimizers.build("muon", model, 0.1, 0.3)
    taken, rest = (
        {names[id(p)] for group in optimizer.param_groups for p in group["params"]}
        for optimizer in (muon, adamw)
    )
    assert taken == {name for name in names.values() if name.endswith("_proj.weight")}
    assert taken | rest == set(names.values()) and not taken & rest
    assert ("lm_head.weight" in rest) != tied and "model.embed_tokens.weight" in rest
    assert {group["weight_decay"] for group in muon.param_groups} == {0.3}


def test_frozen_weights_get_no_gradient_and_no_state(tmp_path):
    objective = make_objective()
    objective.module.model.requires_grad_(False)
    objective.module.model.model.norm.weight.requires_grad_(True)
    before = {k: v.clone() for k, v in objective.module.model.state_dict().items()}
    _, after = run(tmp_path, objective, checkpoint_minutes=0.0)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"model.norm.weight"}
    assert all(p.grad is None for p in objective.module.parameters())
    state = Checkpoints(tmp_path, "run").latest()[1]
    assert len(state["parameters"]) == len(state["optimizers"][0]["state"]) == 1


# -- checkpoints ---------------------------------------------------------------------------------


def test_the_last_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, "run")
    for step in range(1, 6):
        checkpoints.save(step, {"value": step})
    kept = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("step-*.pt"))
    assert kept == [4, 5]
    assert checkpoints.latest() == (5, {"value": 5})


def test_what_a_killed_process_was_writing_goes(tmp_path):
    """A file as large as a checkpoint was left at each kill -9."""
    (tmp_path / ".writing-1").write_bytes(b"half")
    path = Checkpoints(tmp_path, "run").save(1, {"value": 1})
    assert list(tmp_path.iterdir()) == [path]


def test_another_runs_checkpoints_neither_count_nor_go(tmp_path):
    """Its higher steps once had a new run's deleted as they were written."""
    old, new = Checkpoints(tmp_path, "old"), Checkpoints(tmp_path, "new")
    for step in (800, 900):
        old.save(step, {"value": step})
    assert new.newest() is None and new.latest() is None
    for step in (100, 200, 300):
        assert new.save(step, {"value": step}).is_file()
    assert new.latest() == (300, {"value": 300})
    assert [int(path.name.split("-")[1]) for path in new._files()] == [300, 200]
    assert [int(path.name.split("-")[1]) for path in old._files()] == [900, 800]
    assert old.latest() == (900, {"value": 900}), "the settings may be set back"


def test_a_full_disk_ends_the_run_and_leaves_the_checkpoint_before(tmp_path):
    objective = make_objective()
    batch = objective.batch
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(step, rows):
        if step == 6:  # from the end of step 6 on no file may grow beyond a kilobyte
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
        return batch(step, rows)

    objective.batch = filling
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(
            OSError, match=r"step 6 could be written to .* the disk is full"
        ) as told:
            run(tmp_path, objective, checkpoint_minutes=0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "is intact" in str(told.value) and "kindling clean" in str(told.value)
    assert Checkpoints(tmp_path, "run").latest()[0] == 5
    assert not list(tmp_path.glob(".writing-*"))


# -- speed and size ------------------------------------------------------------------------------


def test_flops_are_those_that_torch_counts():
    model = make_model()
    rows = torch.randint(0, VOCABULARY, (2, CONTEXT))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=rows, use_cache=False).logits.sum().backward()
    given = llama.training_flops(model.config, sum(p.numel() for p in model.parameters()))
    # torch counts attention's masked half too, and no gains; its backward recomputes one product
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    gains = (2 * layers + 1) * width
    matrices = given - 6 * gains - 6 * layers * width * CONTEXT
    products = counter.get_total_flops() / rows.numel()
    assert matrices <= products <= matrices + 14 * layers * width * CONTEXT


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_what_autograd_saves(checkpointing):
    """Between three layers and two: what one layer keeps for a token."""
    kept = []
    for layers in (2, 3):
        model = make_model(num_hidden_layers=layers)
        if checkpointing:
            model.activation_checkpointing_enable()
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        saved, rows = {}, torch.randint(1, VOCABULARY, (4, CONTEXT + 1))

        def pack(tensor, saved=saved, weights=weights):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # alive, or it is used anew
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            Loss(model, 1.0)(rows)
        kept.append(sum(size for size, _ in saved.values()))
    configs = (make_model(num_hidden_layers=layers).config for layers in (2, 3))
    two, three = (llama.activation_bytes(config, checkpointing) for config in configs)
    assert (kept[1] - kept[0]) / (4 * CONTEXT) == pytest.approx(three - two, rel=0.02)


def test_the_activations_of_other_families_are_told_by_their_own_names():
    """GPT-2's configuration has no width of the feed-forward layer unless one is set."""
    theirs = GPT2Config(n_embd=32, n_layer=2, n_head=2)
    ours = make_model(intermediate_size=128).config
    assert llama.activation_bytes(theirs) == llama.activation_bytes(ours)
    theirs.n_inner = 64
    assert llama.activation_bytes(theirs) == llama.activation_bytes(make_model().config)


def test_peak_memory_is_this_process_own():
    """A child's getrusage(2) begins with what its parent held."""
    held = np.ones(1_000_000_000, dtype=np.uint8)
    code = "from components.training import machine; print(machine.peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
    assert int(done.stdout) < held.nbytes


MEMORY = """
import json, sys, psutil, torch
from pathlib import Path
from tests.test_training import make_model, make_plan
from components.training import loop, machine
from components.training.checkpoint import Checkpoints
from components.training.next_token import NextToken
from components.training.windows import Windows
import numpy as np
from components.models import llama
from components.reporter import Silent
size = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4}
words = int(sys.argv[3])
model = make_model(vocab_size=words, max_position_embeddings=256, num_attention_heads=8, **size)
tokens = np.random.default_rng(0).integers(1, 64, 100_000).astype(np.uint16)
windows = Windows(tokens, np.array([0, 100_000]), 256, 1)
micro_rows, rows = int(sys.argv[1]), max(8, int(sys.argv[1]))
objective = NextToken(model, windows, tokens[:600], rows, False)
torch.randn(512, 512) @ torch.randn(512, 512)
before = psutil.Process().memory_info().rss
states = 12 * sum(p.numel() for p in model.parameters())
states += objective.step_bytes()
expected = states + micro_rows * 256 * llama.activation_bytes(model.config) + 12e6
machine.free_memory = lambda: 1.5 * expected
plan = make_plan(steps=2, rows=rows, evaluate_every=2, micro_rows=micro_rows)
loop.train(objective, plan, Checkpoints(Path(sys.argv[2]), "run"), Silent())
print(json.dumps([machine.peak_memory() - before, expected]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("micro_rows", "words"), [(16, 64), (4, 64), (4, 50_000)])
def test_where_memory_is_short_it_is_what_the_formula_says(tmp_path, micro_rows, words):
    """The gradient of the output matrix, twice, was left out: with a vocabulary as GPT-2's much."""
    command = [sys.executable, "-c", MEMORY, str(micro_rows), str(tmp_path), str(words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    peak, expected = json.loads(done.stdout.splitlines()[-1])
    assert peak < 1.2 * expected, (peak / 1e6, expected / 1e6)


CORPUS = """
import sys, numpy as np
from pathlib import Path
from tests.test_training import make_model, make_plan
from components.reporter import Silent
from components.training import loop, machine
from components.training.checkpoint import Checkpoints
from components.training.next_token import NextToken
from components.training.windows import Windows
tokens = np.memmap(sys.argv[1], dtype=np.uint16, mode="r")
windows = Windows(tokens, np.array([0, len(tokens)]), 256, 1)
objective = NextToken(make_model(max_position_embeddings=256), windows, tokens[:600], 8, False)
plan = make_plan(steps=20, evaluate_every=20)
loop.train(objective, plan, Checkpoints(Path(sys.argv[2]), "run"), Silent())
print(machine.peak_memory())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """2 GB of tokens, which a file with a hole holds without a disk that large, and 2 MB."""
    peaks = []
    for size in (2_000_000, 2_000_000_000):
        file = tmp_path / f"{size}.bin"
        with file.open("wb") as opened:
            opened.truncate(size)
        command = [sys.executable, "-c", CORPUS, str(file), str(tmp_path / str(size))]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        peaks.append(int(done.stdout.splitlines()[-1]))
    sequences = 1_000_000_000 // 256
    assert peaks[1] - peaks[0] < 3 * 8 * sequences  # their order is drawn: 8 bytes each, and copies


def test_compiles_only_what_repays_it(monkeypatch):
    monkeypatch.setattr(machine, "can_compile", lambda: True)
    long = make_plan(compile="auto", steps=10**6, flops=1e9)
    assert plan._compiles(long)
    assert not plan._compiles(make_plan(compile="auto", flops=1e6))
    assert not plan._compiles(make_plan(compile="never", steps=10**6, flops=1e9))


def test_without_a_compiler_it_goes_on_and_says_so(capsys):
    with torch._inductor.config.patch({"cpp.cxx": ("/nowhere/g++",)}):
        assert not plan._compiles(make_plan(compile="always"))
    assert "no C++ compiler" in capsys.readouterr().out


@pytest.mark.parametrize("apart", [False, True])
def test_plain_attention_is_the_fused_one(apart, monkeypatch):
    """To bfloat16's rounding: losses and gradients, with documents apart and not."""
    monkeypatch.setattr(machine, "device", lambda: torch.device("cpu"))
    found = {}
    for precision in ("float32", "bfloat16"):
        objective = make_objective(apart=apart)
        objective.prepare(precision, False)
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective.module(*objective.batch(0, range(8)))
        loss.backward()
        used = objective.module.model.config._attn_implementation
        found[used] = [loss, *(p.grad for p in objective.module.parameters())]
    assert set(found) == {"sdpa", "eager"}
    for fused, plain in zip(found["sdpa"], found["eager"], strict=True):
        assert (fused - plain).norm() < 0.02 * fused.norm()


def test_scores_are_kept_only_while_they_are_small(monkeypatch):
    monkeypatch.setattr(machine, "device", lambda: torch.device("cpu"))
    config = make_model().config
    assert attention.is_plain(config, "bfloat16") and not attention.is_plain(config, "float32")
    config.max_position_embeddings = 1 << 16
    assert not attention.is_plain(config, "bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True])
def test_compiled_it_learns_the_same(tmp_path, apart):
    eager = run(tmp_path / "eager", make_objective(apart=apart), steps=6)
    objective = make_objective(apart=apart)
    compiled = run(tmp_path / "compiled", objective, steps=6, compile="always")
    losses = [[entry["loss"] for entry in history] for history in (eager[0], compiled[0])]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_cosine_is_the_papers_formula():
    """Loshchilov & Hutter 2017, equation 5, between the peak and a tenth of it."""
    steps, rising, peak = 110, 10, 3.0
    low = 0.1 * peak
    for step in range(steps):
        expected = low + (peak - low) / 2 * (1 + np.cos(np.pi * (step - rising) / 100))
        expected = peak * (step + 1) / rising if step < rising else expected
        assert learning_rate(step, steps, peak, rising / steps) == pytest.approx(expected)


def test_wsd_rises_stays_and_falls():
    rates = [learning_rate(step, 100, 1.0, 0.1, "wsd") for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0
    assert set(rates[10:80]) == {1.0}
    assert all(a > b for a, b in itertools.pairwise(rates[80:]))
    assert 0 < rates[-1] < 0.05


def test_inverse_sqrt_is_the_papers_formula():
    """Vaswani et al. 2017, equation 3, whose peak is width ** -0.5 * warmup ** -0.5."""
    steps, rising, width = 1000, 100, 512
    peak = (width * rising) ** -0.5
    for step in (1, 40, 100, 101, 700, 1000):
        expected = width**-0.5 * min(step**-0.5, step * rising**-1.5)
        found = learning_rate(step - 1, steps, peak, rising / steps, "inverse_sqrt")
        assert found == pytest.approx(expected)


def test_in_a_thread_signals_are_left_alone(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(tmp_path)[0]))
    thread.start()
    thread.join(60)
    assert found


INTEL, AMD = {"cpu_name": "Intel(R) Xeon(R)"}, {"cpu_name": "AMD EPYC 9654"}


@pytest.mark.parametrize(
    ("able", "taken"),
    [
        ({**INTEL, "avx512_f": True, "avx512_bf16": True}, "float32"),
        ({**INTEL, "avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, "bfloat16"),
        ({**AMD, "avx512_f": True, "avx512_bf16": True}, "bfloat16"),
        ({**AMD, "avx512_f": True}, "float32"),
        ({}, "float32"),
    ],
)
def test_auto_is_told_by_the_kind_of_processor(monkeypatch, able, taken):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(machine, "device", lambda: torch.device("cpu"))
    assert machine.resolved("auto") == taken
    assert machine.resolved("float32") == "float32"


@pytest.fixture
def products():
    """PyTorch's setting for products of float32, which is put back."""
    held = torch.backends.mkldnn.matmul
    usual = held.fp32_precision
    yield held
    held.fp32_precision = usual


@pytest.mark.parametrize("keeps", [True, False])
def test_another_library_multiplies_only_as_exactly(monkeypatch, products, keeps):
    """On AMD's processors, and only where its float32 is float32."""
    usual = products.fp32_precision
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {**INTEL, "avx512_f": True})
    machine.settle_products()
    assert products.fp32_precision == usual
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {**AMD, "avx512_f": True})
    monkeypatch.setattr(machine, "_keeps_float32", lambda: keeps)
    machine.settle_products()
    assert products.fp32_precision == ("bf16" if keeps else usual)


def test_products_are_of_float32_however_they_are_settled(products):
    machine.settle_products()
    left, right = torch.randn(128, 192), torch.randn(192, 160)
    wanted = left.double() @ right.double()
    assert torch.allclose((left @ right).double(), wanted, atol=1e-4)  # of bfloat16: 0.1
