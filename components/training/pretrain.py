"""Pretraining: a decoder learns to predict the next token of the corpus."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from components.block import Block
from components.lineage import write_json
from components.models import llama
from components.reporter import Reporter
from components.tokens import open_tokens
from components.training.checkpoint import Checkpoints
from components.training.loop import Plan, Precision, train

if TYPE_CHECKING:
    import torch

VALIDATION_WINDOWS = 64  # x context tokens: enough for a curve, cheap enough to draw it often
SAMPLES = 5
SAMPLE_TOKENS = 60
SAMPLE_TEMPERATURE = 0.8


class Pretrain(Block):
    """How the base is trained. tokens: in all; batch_tokens: of a step; clip: gradient norm."""

    tokens: int = Field(ge=1)
    batch_tokens: int = Field(ge=8)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(default=0.05, ge=0, le=1, description="part of the steps")
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float = Field(default=1.0, gt=0)
    evaluations: int = Field(default=10, ge=1, description="of the validation loss, in all")
    checkpoint_minutes: float = Field(default=1.0, gt=0)
    precision: Precision = "auto"
    seed: int = 0

    @model_validator(mode="after")
    def _at_least_one_step(self) -> "Pretrain":
        if self.tokens < self.batch_tokens:
            raise ValueError(f"tokens {self.tokens} is less than batch_tokens {self.batch_tokens}")
        return self

    @property
    def steps(self) -> int:
        return self.tokens // self.batch_tokens


class Windows:
    """Sequences cut from a flat token file, in an order that depends on seed and position alone.

    Each epoch shifts the cuts and permutes the sequences anew.
    """

    def __init__(self, tokens: np.ndarray, context: int, seed: int) -> None:
        self.tokens, self.context, self.seed = tokens, context, seed
        self.count = (len(tokens) - 1) // context - 1  # one less: room for the epoch's shift
        if self.count < 1:
            raise ValueError(
                f"the corpus has {len(tokens)} tokens, fewer than two contexts of {context}; "
                "give it more text or the model a smaller context"
            )
        self._epoch = -1

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Sequences number `start` to `stop` of the run. Shape (stop - start, context + 1)."""
        return np.stack([self._row(number) for number in range(start, stop)])

    def _row(self, number: int) -> np.ndarray:
        epoch, place = divmod(number, self.count)
        if epoch != self._epoch:
            random = np.random.default_rng([self.seed, epoch])
            self._shift = int(random.integers(self.context))
            self._order = random.permutation(self.count)
            self._epoch = epoch
        first = self._shift + int(self._order[place]) * self.context
        return self.tokens[first : first + self.context + 1].astype(np.int64)


def pretrain(
    model_block: llama.Model,
    block: Pretrain,
    tokens: Path,
    tokenizer: Path,
    out: Path,
    *,
    checkpoints: Path,
    identity: str,
    report: Reporter,
) -> dict[str, float]:
    """Train a base on `tokens` into `out`, a folder that `AutoModelForCausalLM` opens.

    Beside it stand the tokenizer, `training.json` and `samples.json`.

    Raises:
        ValueError: the batch is smaller than a sequence, or the corpus too short.
    """
    from transformers import AutoTokenizer

    context = model_block.context
    if block.batch_tokens % context:
        raise ValueError(
            f"pretrain.batch_tokens {block.batch_tokens} is no multiple of model.context {context}"
        )
    opened = AutoTokenizer.from_pretrained(tokenizer)
    model = llama.build(model_block, opened, block.seed)
    windows = Windows(open_tokens(tokens, "train")[0], context, block.seed)
    held_out = open_tokens(tokens, "validation")[0]
    size = block.batch_tokens // context
    parameters = sum(p.numel() for p in model.parameters())
    epochs = block.tokens / (windows.count * context)
    report.params({"parameters": parameters, "steps": block.steps, "epochs": round(epochs, 3)})
    plan = Plan(
        steps=block.steps,
        learning_rate=block.learning_rate,
        warmup=block.warmup,
        weight_decay=block.weight_decay,
        clip=block.clip,
        evaluate_every=max(1, block.steps // block.evaluations),
        checkpoint_minutes=block.checkpoint_minutes,
        precision=block.precision,
        tokens=block.batch_tokens,
    )
    history = train(
        model,
        lambda step: _loss(model, windows.rows(step * size, (step + 1) * size)),
        plan,
        Checkpoints(checkpoints, identity),
        report,
        lambda: _validation_loss(model, held_out, context, size),
    )
    model.save_pretrained(out)
    opened.save_pretrained(out)
    trained = {"parameters": parameters, "tokens": block.steps * block.batch_tokens}
    write_json(out / "training.json", {"history": history, **trained})
    samples = _samples(model, opened, held_out, block.seed)
    write_json(out / "samples.json", samples)
    shown = "\n\n".join(f"{s['prompt']}|{s['text']}" for s in samples)
    report.text("samples.txt", shown)
    last = history[-1]
    figures = {key: last[key] for key in ("loss", "validation_loss")}
    return {**figures, "parameters": float(parameters)}


def _loss(model, rows: np.ndarray) -> "torch.Tensor":
    import torch
    from torch.nn.functional import cross_entropy

    batch = torch.from_numpy(rows)  # (sequences, context + 1)
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits  # (sequences, context, vocab)
    return cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())


def _validation_loss(model, tokens: np.ndarray, context: int, size: int) -> float:
    """The mean loss over evenly spaced windows of the validation tokens, in nats per token."""
    import torch

    length = min(context, len(tokens) - 1)
    starts = np.linspace(0, len(tokens) - 1 - length, VALIDATION_WINDOWS).astype(int)
    rows = [tokens[start : start + length + 1].astype(np.int64) for start in np.unique(starts)]
    losses, weights = [], []
    with torch.no_grad():
        for first in range(0, len(rows), size):
            part = np.stack(rows[first : first + size])
            losses.append(float(_loss(model, part)))
            weights.append(len(part))
    return float(np.average(losses, weights=weights))


def _samples(model, tokenizer, held_out: np.ndarray, seed: int) -> list[dict[str, str]]:
    """Continuations of the beginnings of validation documents, sampled with a fixed seed."""
    import torch

    borders = np.flatnonzero(held_out[: 1 << 20] == tokenizer.eos_token_id)[:-1]
    chosen = borders[np.linspace(0, len(borders) - 1, SAMPLES).astype(int)] if len(borders) else [0]
    torch.manual_seed(seed)
    samples = []
    for border in chosen:
        start = torch.from_numpy(held_out[border : border + 5].astype(np.int64))[None]
        made = model.generate(
            input_ids=start,
            attention_mask=torch.ones_like(start),
            max_new_tokens=min(SAMPLE_TOKENS, model.config.max_position_embeddings - 5),
            do_sample=True,
            temperature=SAMPLE_TEMPERATURE,
            pad_token_id=tokenizer.pad_token_id,
        )[0]
        prompt = tokenizer.decode(start[0, 1:])
        text = tokenizer.decode(made[start.shape[1] :], skip_special_tokens=True)
        samples.append({"prompt": prompt, "text": text})
    return samples
