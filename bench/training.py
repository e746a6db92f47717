"""How near training comes to this machine's limit, and peers beside it: `python bench/training.py`.

Every contestant trains the same decoder from the same weights on the same batches with the same
schedule, each in a process of its own, in turns. `--device cuda` trains decoders of 124 M and 350 M
parameters. `--json FILE` writes the table.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _world import prepare

SEED, WARMUP, DECAY, CLIP = 1, 0.1, 0.1, 1.0
# layers, width, heads, context, vocabulary, sequences of a step, learning rate
SHAPES = {
    "6M": (6, 256, 8, 256, 4096, 16, 2e-3),
    "124M": (12, 768, 12, 1024, 50304, 32, 6e-4),
    "350M": (24, 1024, 16, 1024, 50304, 16, 3e-4),
}
EXACT = "kindling_exact"
SKIPPED = 0.25  # of the steps, at the start: compilation and warm caches


def batches(folder: Path, shape: str, steps: int) -> np.ndarray:
    """The sequences of all steps. Shape (steps, sequences, context + 1)."""
    from components.training.windows import Windows

    _, _, _, context, _, rows, _ = SHAPES[shape]
    tokens = tokens_of(folder)
    windows = Windows(tokens, np.array([0, len(tokens)]), context, SEED)
    return windows.rows(range(steps * rows)).reshape(steps, rows, context + 1)


def model(shape: str):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, width, heads, context, vocabulary, _, _ = SHAPES[shape]
    torch.manual_seed(SEED)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=-(-width * 8 // 3 // 32) * 32,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            eos_token_id=0,
        )
    )


def tokens_of(folder: Path) -> np.ndarray:
    from components.tokens import open_tokens

    return np.asarray(open_tokens(folder / "tokens", "train")[0])


class Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def tick(self) -> None:
        """Where a step begins, when all before it is done."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.note()

    def note(self) -> None:
        """At the same place in every step of a loop that awaits each of its steps itself."""
        self.at.append(time.perf_counter())

    def seconds(self) -> float:
        taken = np.diff(self.at)
        return float(np.median(taken[int(SKIPPED * len(taken)) :]))


def kindling(shape: str, steps: int, folder: Path, exact: bool = False) -> tuple[float, float]:
    """Our own engine, as a stage calls it: its median seconds a step, and its last losses' mean.

    exact: as `pretrain.exact`, of which a processor's speed does not depend.
    """
    from components.models import llama
    from components.reporter import Silent
    from components.training import loop, machine
    from components.training.checkpoint import Checkpoints
    from components.training.next_token import NextToken
    from components.training.plan import Plan
    from components.training.windows import Windows

    machine.settle_products()
    _, _, _, context, _, rows, rate = SHAPES[shape]
    trained = model(shape)
    parameters = sum(p.numel() for p in trained.parameters())
    tokens = tokens_of(folder)
    windows = Windows(tokens, np.array([0, len(tokens)]), context, SEED)
    objective = NextToken(trained, windows, tokens[: context + 2], rows, apart=False)
    clock, losses = Clock(), []
    batch = objective.batch

    def timed(step: int, part: range):
        if part.start == 0:
            clock.note()
        return batch(step, part)

    class Losses(Silent):
        def metrics(self, values, step=0):
            losses.extend([values["loss"]] if "loss" in values else [])

    objective.batch = timed
    plan = Plan(
        steps=steps,
        rows=rows,
        learning_rate=rate,
        warmup=WARMUP,
        weight_decay=DECAY,
        clip=CLIP,
        evaluate_every=steps,
        checkpoint_minutes=60.0,
        precision="auto",
        seed=SEED,
        compile="always",
        exact=exact,
        tokens=rows * context,
        flops=llama.training_flops(trained.config, parameters),
    )
    loop.train(objective, plan, Checkpoints(folder / "checkpoints", "bench"), Losses())
    return clock.seconds(), statistics.mean(losses[-5:])


def trainer(shape: str, steps: int, folder: Path, **options) -> tuple[float, float]:
    """transformers.Trainer with `options`, all else as it comes."""
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainerCallback, TrainingArguments

    *_, rows, rate = SHAPES[shape]
    cut = batches(folder, shape, steps)
    data = [{"input_ids": row[:-1], "labels": row[:-1]} for row in cut.reshape(-1, cut.shape[2])]
    clock, losses = Clock(), []

    class Timed(TrainerCallback):
        def on_step_begin(self, *_args, **_kwargs):
            clock.tick()

        def on_log(self, *_args, logs=None, **_kwargs):
            losses.extend([logs["loss"]] if "loss" in logs else [])

    class InOrder(Trainer):
        def _get_train_sampler(self, *_args, **_kwargs):
            return SequentialSampler(self.train_dataset)

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=rows,
        max_steps=steps,
        learning_rate=rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=max(1, round(WARMUP * steps)),
        weight_decay=DECAY,
        adam_beta2=0.95,
        max_grad_norm=CLIP,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=SEED,
        use_cpu=not torch.cuda.is_available(),
        **options,
    )
    torch.manual_seed(SEED)
    InOrder(model(shape), arguments, train_dataset=data, callbacks=[Timed()]).train()
    return clock.seconds(), statistics.mean(losses[-5:])


def accelerated(shape: str, steps: int, folder: Path) -> tuple[float, float]:
    """A plain loop with Hugging Face's accelerate, in its example's style."""
    import torch
    from accelerate import Accelerator
    from transformers import get_cosine_with_min_lr_schedule_with_warmup

    *_, rate = SHAPES[shape]
    machine = Accelerator()
    trained = model(shape)
    optimizer = torch.optim.AdamW(
        trained.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=DECAY
    )
    schedule = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, max(1, round(WARMUP * steps)), steps, min_lr_rate=0.1
    )
    trained, optimizer, schedule = machine.prepare(trained, optimizer, schedule)
    clock, losses = Clock(), []
    for cut in torch.from_numpy(batches(folder, shape, steps)):
        clock.tick()
        ids = cut[:, :-1].to(machine.device)
        loss = trained(input_ids=ids, labels=ids).loss
        machine.backward(loss)
        machine.clip_grad_norm_(trained.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return clock.seconds(), statistics.mean(losses[-5:])


CONTESTANTS = {
    "kindling": kindling,
    EXACT: lambda *a: kindling(*a, exact=True),
    "trainer": trainer,
    "trainer_best": lambda *a: trainer(*a, bf16=True, torch_compile=True),
    "trainer_compiled": lambda *a: trainer(*a, torch_compile=True),
    "accelerate": accelerated,
}


def one(name: str, shape: str, steps: int, folder: Path) -> None:
    """Run one contestant in this process and print its figures and the machine's rates."""
    from components.models import llama
    from components.training import machine

    rates = {kind: machine.matrix_rate(kind) for kind in ("bfloat16", "float32")}
    seconds, loss = CONTESTANTS[name](shape, steps, folder)
    again = {kind: machine.matrix_rate(kind) for kind in rates}
    built = model(shape)
    flops = llama.training_flops(built.config, sum(p.numel() for p in built.parameters()))
    _, _, _, context, _, rows, _ = SHAPES[shape]
    told = {
        "tokens_per_s": rows * context / seconds,
        "flops_per_s": rows * context * flops / seconds,
        "final_loss": loss,
        "peak_memory_bytes": machine.peak_memory(),
        **{f"{kind}_flops_per_s": (rates[kind] + again[kind]) / 2 for kind in rates},
    }
    print(json.dumps(told))


def call(name: str, shape: str, steps: int, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", name, "--shape", shape, "--steps", str(steps)]
    done = subprocess.run(
        [*command, "--folder", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(shape: str, steps: int, rounds: int, names: list[str]) -> dict:
    """Every contestant, in turns; medians over the rounds."""
    told: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder, 40_000, 4096)
        for _ in range(rounds):
            for name in names:
                told[name].append(call(name, shape, steps, folder))
    table = {
        name: {key: statistics.median(r[key] for r in runs) for key in runs[0]}
        for name, runs in told.items()
    }
    ours = table["kindling"]
    ratios = {
        f"ratio_to_{name}": round(ours["tokens_per_s"] / table[name]["tokens_per_s"], 2)
        for name in names
        if name != "kindling"
    }
    gemm = {
        "ratio_to_gemm_bf16": round(ours["flops_per_s"] / ours["bfloat16_flops_per_s"], 3),
        "ratio_to_gemm_fp32": round(ours["flops_per_s"] / ours["float32_flops_per_s"], 3),
    }
    return {"shape": shape, "steps": steps, "rounds": rounds, **gemm, **ratios, "runs": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, help="all that differ there")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=SHAPES, help="one decoder alone")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return one(given.one, given.shape, given.steps, given.folder)
    shapes = ["6M"] if given.device == "cpu" else ["124M", "350M"]
    shapes = [given.shape] if given.shape else shapes
    chosen = given.only or [n for n in CONTESTANTS if n != EXACT or given.device == "cuda"]
    names = ["kindling", *(name for name in chosen if name != "kindling")]
    told = [measure(shape, given.steps, given.rounds, names) for shape in shapes]
    print(json.dumps(told[0] if len(told) == 1 else told, indent=1))
    if given.json:
        given.json.write_text(json.dumps(told[0] if len(told) == 1 else told))


if __name__ == "__main__":
    main()
