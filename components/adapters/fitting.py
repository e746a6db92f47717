"""One adapter's training: which rows a step takes, and what is told and kept of it."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.adapters.encoding import overflows, virtual_tokens
from components.adapters.method import Method
from components.adapters.settings import Trained
from components.adapters.task_data import TaskData
from components.lineage import text_hash, write_json
from components.models import llama
from components.reporter import Reporter
from components.training import attention, machine
from components.training.batches import Batches
from components.training.checkpoint import Checkpoints
from components.training.finder import Found, find_rate
from components.training.loop import train
from components.training.machine import Precision
from components.training.plan import Plan, evaluate_every

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

COUNTED = 1000  # rows, for the mean length of a step
LOGIT_BYTES = 12.0  # of one that an answer's token has: itself, its log-probability, its gradient


def frozen_hash(model: "torch.nn.Module") -> str:
    """SHA-256 over the names and bytes of the parameters that are not trained."""
    import hashlib

    digests = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            data = parameter.detach().cpu().contiguous().numpy().tobytes()
            digests.append(f"{name}:{hashlib.sha256(data).hexdigest()}")
    return text_hash(*digests)


class Fitting:
    """Fits a model to a task's rows with the objective of its method.

    It is the `training.loop.Objective` of the loop that trains.
    """

    def __init__(
        self,
        method: Method,
        block: Trained,
        base: "PreTrainedModel",
        data: TaskData,
        held_out: list[dict[str, str]],
    ) -> None:
        """base: it may be changed. held_out: rows for the loss curve."""
        import torch

        assert method.build is not None, "nothing is trained"
        torch.manual_seed(block.seed)
        self.method, self.block, self.data, self.held_out = method, block, data, held_out
        self.rows = data.rows
        self.model = method.build(base, block, data)
        self.module = method.objective(self.model, block, data).to(machine.device())
        # of a label every answer is about as long
        free = data.free_text
        lengths = [len(row["prompt"]) + free * len(row["answer"]) for row in data.rows]
        self.batches = Batches(lengths, block.batch_size, block.seed)

    def train(self, checkpoints: Checkpoints, report: Reporter, out: Path) -> dict[str, float]:
        """Train, and write the model and `training.json` into `out`."""
        trainable = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        report.params({"trainable_parameters": trainable, "train_rows": len(self.rows)})
        before = frozen_hash(self.model)
        history = train(self, self._plan(), checkpoints, report)
        self.model.cpu()
        assert frozen_hash(self.model) == before, "training changed frozen weights of the base"
        self.method.save(self.model, out)
        write_json(out / "training.json", {"history": history, "parameters": trainable})
        last = {key: history[-1][key] for key in ("loss", "validation_loss")}
        cut = float(self._truncated())
        return {**last, "trainable_parameters": float(trainable), "truncated": cut}

    def _truncated(self) -> int:
        """How many of the training rows do not fit as a whole."""
        data, free = self.data, self.data.free_text
        return sum(
            any(
                overflows(self.model, data.tokenizer, data.prompt(row), answer, free)
                for answer in self.module.answers(row)
            )
            for row in self.rows
        )

    def tokens_of_step(self) -> float:
        """How many tokens a step reads: those of prompts with their shots and of answers, as they
        are encoded, in every pass. The mean over about `COUNTED` rows; padding and virtual tokens
        do not count.
        """
        size = self.batches.size
        steps = min(math.ceil(COUNTED / size), len(self.rows) // size)
        read = 0
        for step in range(steps):
            batch = self.module.encode([self.rows[number] for number in self.batches(step)])
            read += int(batch.attention_mask.sum())
        return self.method.passes(self.block) * read / steps

    def find_rate(self) -> Found:
        """About which learning rate suits. The model's weights are spent."""
        return find_rate(self, self._plan())

    def _plan(self) -> Plan:
        block = self.block
        same = ("learning_rate", "warmup", "weight_decay", "clip", "checkpoint_minutes")
        return Plan(
            steps=block.steps,
            rows=self.batches.size,
            evaluate_every=evaluate_every(block.steps, block.evaluations),
            precision=_resolved(block.precision),
            seed=block.seed,
            **{key: getattr(block, key) for key in same},
        )

    def batch(self, step: int, rows: range) -> tuple[Any, int]:
        """The encoded rows, and how much the whole step weighs."""
        chosen = self.batches(step)
        whole = sum(self.module.weight(self.rows[number]) for number in chosen)
        return self.module.encode([self.rows[chosen[place]] for place in rows]), whole

    def validate(self) -> float:
        import torch

        rows, size, total = self.held_out, self.block.batch_size, 0.0
        with torch.no_grad():
            for start in range(0, len(rows), size):
                total += float(self.module(self.module.encode(rows[start : start + size]), 1))
        return total / sum(self.module.weight(row) for row in rows)

    def describe(self, step: int) -> str:
        return f"rows {', '.join(map(str, self.batches(step)))} of the task's training split"

    def row_bytes(self, precision: machine.Precision) -> float:
        """That of the longest row, about, as if no weight of the base were frozen."""
        batch = self.module.encode([self.rows[int(self.batches.lengths.argmax())]])
        tokens = batch.attention_mask.numel()
        tokens += virtual_tokens(self.model) * len(batch.attention_mask)
        config = self.model.config
        kept = llama.activation_bytes(config) + attention.score_bytes(config, precision)
        said = LOGIT_BYTES * config.vocab_size * len(getattr(batch, "targets", ()))
        return self.method.passes(self.block) * (tokens * kept + said)

    def step_bytes(self) -> float:
        return 0.0

    def prepare(self, precision: machine.Precision, _compiled: bool) -> None:
        """Not compiled: batches differ in length, and each length would be compiled anew."""
        attention.suit(self.model, precision)


def _resolved(precision: Precision) -> Precision:
    """`auto` as float32 on a processor, where few and short steps gain little from bfloat16.

    They lose by it: on one base of the quickstart, with one seed, soft prompt 0.772 against 0.695,
    LoRA 0.912 against 0.849 (509 test reviews).
    """
    on_processor = machine.device().type == "cpu"
    return "float32" if precision == "auto" and on_processor else precision
