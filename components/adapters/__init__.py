"""Adapters: every way to fit a frozen base to a task, trained and loaded through one door.

Adding a method is a file with its block, `build`, `save` and `load`, and a line in `METHODS`.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field

from components.adapters import full, lora, prompt, prompt_tuning
from components.adapters.settings import Adapter, Trained
from components.lineage import content_of, read_json, read_jsonl, text_hash, write_json
from components.models import llama
from components.prompts import choose_shots, with_shots
from components.reporter import Reporter
from components.training import machine
from components.training.checkpoint import Checkpoints
from components.training.loop import train
from components.training.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from components.adapters.encoding import Batch

WINDOW = 16  # batches whose rows are sorted by length together
VALIDATION_ROWS = 256  # for the loss curve; scores come from the evaluation stage

AdapterBlock = Annotated[
    prompt.PromptDesign | lora.Lora | prompt_tuning.PromptTuning | full.Full,
    Field(discriminator="method"),
]


class Method(Protocol):
    """What a trained method's module offers."""

    def build(
        self,
        base: "PreTrainedModel",
        block: Any,
        tokenizer: "PreTrainedTokenizerBase",
        answers: list[str],
    ) -> "PreTrainedModel": ...

    def save(self, model: "PreTrainedModel", folder: Path) -> None: ...

    def load(self, base: "PreTrainedModel", folder: Path) -> "PreTrainedModel": ...


METHODS: dict[str, Method] = {
    "prompt": prompt,
    "prompt_tuning": prompt_tuning,
    "lora": lora,
    "full": full,
}


def train_adapter(
    block: Adapter,
    name: str,
    task: Path,
    base: Path,
    out: Path,
    *,
    checkpoints: Path,
    identity: str,
    report: Reporter,
    random_base: bool = False,
) -> dict[str, float]:
    """Fit the base of folder `base` to the task of folder `task`, into `out`.

    random_base: adapt a randomly initialised model of the base's form instead, a control.

    Raises:
        ValueError: the task has too few rows, or the training diverged.
    """
    description = read_json(task / "task.json")
    wording = description["prompt"]
    shots = getattr(block, "shots", None)
    shots = wording["shots"] if shots is None else shots
    rows = list(read_jsonl(task / "train.jsonl"))
    shot_texts = choose_shots(rows, shots, block.seed)
    figures: dict[str, float] = {"trainable_parameters": 0.0}
    if isinstance(block, Trained):
        held_out = list(read_jsonl(task / "validation.jsonl"))[:VALIDATION_ROWS]
        model = llama.randomised(base, block.seed) if random_base else llama.load(base)
        run = _Training(block, model, base, list(description["labels"].values()), shot_texts)
        figures = run.train(rows, held_out, Checkpoints(checkpoints, identity), report, out)
        figures["truncated"] = float(run.truncated())
    settings = block.model_dump(mode="json")
    write_json(
        out / "adapter.json",
        {
            "name": name,
            "method": block.method,
            "task": description["name"],
            "base": content_of(base),
            "random_base": block.seed if random_base else None,
            "prompt": wording | {"shots": shots, "shot_texts": shot_texts},
            "labels": description["labels"],
            "trainable_parameters": int(figures["trainable_parameters"]),
            "truncated": int(figures.get("truncated", 0)),
            "settings": settings,
        },
    )
    return figures


def load_adapter(base: Path, folder: Path) -> "PreTrainedModel":
    """The model that the adapter of `folder` makes of the base in `base`, in evaluation mode.

    Raises:
        ValueError: the adapter was trained on another base.
    """
    description = read_json(folder / "adapter.json")
    found = content_of(base)
    if description["base"] != found:
        raise ValueError(
            f"adapter {description['name']} was trained on base {description['base'][:12]}, "
            f"{base} holds {found[:12]}; run 'dvc repro' or give its own base"
        )
    seed = description["random_base"]
    model = llama.load(base) if seed is None else llama.randomised(base, seed)
    return METHODS[description["method"]].load(model, folder).eval()


def frozen_hash(model: "torch.nn.Module") -> str:
    """SHA-256 over the names and bytes of the parameters that are not trained."""
    import hashlib

    digests = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            data = parameter.detach().cpu().contiguous().numpy().tobytes()
            digests.append(f"{name}:{hashlib.sha256(data).hexdigest()}")
    return text_hash(*digests)


class _Batches:
    """Which rows a step trains on: a function of seed and step alone, so that nothing is resumed.

    Each epoch permutes the rows anew, and sorts every `WINDOW` batches' worth of them by length:
    neighbours of one length need little padding. The order of batches stays random.
    """

    def __init__(self, lengths: list[int], size: int, seed: int) -> None:
        import numpy as np

        self.lengths, self.seed = np.array(lengths), seed
        self.size = min(size, len(lengths))
        self.of_epoch = lru_cache(maxsize=1)(self._of_epoch)

    def _of_epoch(self, epoch: int) -> "np.ndarray":
        """The whole batches of an epoch, (batches, size); a last part of one is left out."""
        import numpy as np

        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.lengths))
        order = order[: len(order) // self.size * self.size]
        window = WINDOW * self.size
        for start in range(0, len(order), window):
            part = order[start : start + window]
            order[start : start + window] = part[np.argsort(self.lengths[part], kind="stable")]
        return random.permutation(order.reshape(-1, self.size))

    def __call__(self, step: int) -> list[int]:
        epoch, number = divmod(step, len(self.lengths) // self.size)
        return self.of_epoch(epoch)[number].tolist()


class _Training:
    """One adapter's training: the loss on the answers of rows. See `training.loop.Objective`."""

    row_bytes = 0.0  # a batch is small; where it does not fit the loop halves it

    def __init__(
        self,
        block: Trained,
        base_model: "PreTrainedModel",
        base: Path,
        answers: list[str],
        shot_texts: list[str],
    ) -> None:
        import torch
        from transformers import AutoTokenizer

        from components.adapters.answer_loss import AnswerLoss

        torch.manual_seed(block.seed)
        self.block = block
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.method = METHODS[block.method]
        self.model = self.method.build(base_model, block, self.tokenizer, answers)
        self.module = AnswerLoss(self.model).to(machine.device())
        self.shot_texts = shot_texts
        self.free_text = not answers  # a task without labels

    def train(
        self,
        rows: list[dict[str, str]],
        held_out: list[dict[str, str]],
        checkpoints: Checkpoints,
        report: Reporter,
        out: Path,
    ) -> dict[str, float]:
        block = self.block
        self.rows, self.held_out = rows, held_out
        # of a label every answer is about as long
        lengths = [len(row["prompt"]) + self.free_text * len(row["answer"]) for row in rows]
        self.batches = _Batches(lengths, block.batch_size, block.seed)
        trainable = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        report.params({"trainable_parameters": trainable, "train_rows": len(rows)})
        before = frozen_hash(self.model)
        history = train(self, self._plan(), checkpoints, report)
        self.model.cpu()
        assert frozen_hash(self.model) == before, "training changed frozen weights of the base"
        self.method.save(self.model, out)
        write_json(out / "training.json", {"history": history, "parameters": trainable})
        last = {key: history[-1][key] for key in ("loss", "validation_loss")}
        return {**last, "trainable_parameters": float(trainable)}

    def _plan(self) -> Plan:
        block = self.block
        same = ("learning_rate", "warmup", "weight_decay", "clip", "checkpoint_minutes")
        return Plan(
            steps=block.steps,
            rows=self.batches.size,
            evaluate_every=max(1, block.steps // block.evaluations),
            precision=block.precision,
            seed=block.seed,
            **{key: getattr(block, key) for key in same},
        )

    def batch(self, step: int, rows: range) -> "tuple[Batch, int]":
        """The encoded rows, and how many answer tokens the whole step has."""
        from components.adapters.encoding import pair

        chosen = self.batches(step)
        pairs = [self._pair(self.rows[number]) for number in chosen]
        whole = sum(len(pair(self.model, self.tokenizer, *p, self.free_text)[1]) for p in pairs)
        return self._encode([self.rows[chosen[place]] for place in rows]), whole

    def truncated(self) -> int:
        """How many of the training rows do not fit as a whole."""
        from components.adapters.encoding import overflows

        pairs = map(self._pair, self.rows)
        return sum(overflows(self.model, self.tokenizer, *p, self.free_text) for p in pairs)

    def _pair(self, row: dict[str, str]) -> tuple[str, str]:
        """What is read, and the answer."""
        return with_shots(self.shot_texts, row["prompt"]), row["answer"]

    def _encode(self, rows: list[dict[str, str]]) -> "Batch":
        from components.adapters.encoding import encode

        prompts, answers = zip(*map(self._pair, rows), strict=True)
        return encode(self.model, self.tokenizer, prompts, answers, self.free_text)

    def validate(self) -> float:
        import torch

        rows, size, total, tokens = self.held_out, self.block.batch_size, 0.0, 0
        with torch.no_grad():
            for start in range(0, len(rows), size):
                batch = self._encode(rows[start : start + size])
                total += float(self.module(batch, 1))
                tokens += len(batch.targets)
        return total / tokens

    def describe(self, step: int) -> str:
        return f"rows {', '.join(map(str, self.batches(step)))} of the task's training split"

    def compile(self) -> None:
        """Nothing: batches differ in length, and each length would be compiled anew."""
