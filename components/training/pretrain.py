"""Pretraining: a decoder learns to predict the next token of the corpus."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from components.block import Block
from components.lineage import read_json, write_json
from components.models import llama
from components.reporter import Reporter
from components.tokens import open_tokens
from components.training import devices
from components.training.checkpoint import Checkpoints
from components.training.loop import train
from components.training.machine import Precision
from components.training.optimizers import Optimizer
from components.training.plan import Compile, Plan, evaluate_every
from components.training.schedule import Schedule
from components.training.windows import Windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SAMPLES = 5
SAMPLE_TOKENS = 60
SAMPLE_TEMPERATURE = 0.8


class Pretrain(Block):
    """How the base is trained. tokens: in all; batch_tokens: of a step; clip: gradient norm.

    documents: whether a token sees the document before its own in a sequence. micro_batch_tokens:
    of a step those at once on a device; left out, the most that fit. compile: auto compiles where
    the run is long enough to repay it. exact: the same run gives the same bits, and a resumed one
    those of an uninterrupted one.
    """

    tokens: int = Field(ge=1)
    batch_tokens: int = Field(ge=8, description="of a step, over all devices")
    learning_rate: float = Field(gt=0)
    schedule: Schedule = "cosine"
    warmup: float = Field(default=0.05, ge=0, le=1, description="part of the steps")
    optimizer: Optimizer = "adamw"
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float = Field(default=1.0, gt=0)
    documents: Literal["joined", "apart"] = "joined"
    evaluations: int = Field(default=10, ge=1, description="of the validation loss, in all")
    checkpoint_minutes: float = Field(default=1.0, gt=0)
    micro_batch_tokens: int | None = Field(default=None, ge=8)
    activation_checkpointing: bool = Field(default=False, description="less memory, more time")
    precision: Precision = "auto"
    compile: Compile = "auto"
    exact: bool = Field(default=True, description="on an accelerator too, where it costs speed")
    seed: int = 0

    @model_validator(mode="after")
    def _at_least_one_step(self) -> "Pretrain":
        if self.tokens < self.batch_tokens:
            raise ValueError(f"tokens {self.tokens} is less than batch_tokens {self.batch_tokens}")
        return self

    @property
    def steps(self) -> int:
        return self.tokens // self.batch_tokens

    def rows(self, context: int) -> int:
        """Sequences of a step.

        Raises:
            ValueError: a key in tokens is no multiple of `context`.
        """
        for key in ("batch_tokens", "micro_batch_tokens"):
            value = getattr(self, key)
            if value is not None and value % context:
                raise ValueError(
                    f"pretrain.{key} {value} is no multiple of model.context {context}"
                )
        return self.batch_tokens // context


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
    price: float | None = None,
    strategy: devices.Strategy = "ddp",
    asked: list[int] | None = None,
) -> dict[str, float]:
    """Train a base on `tokens` into `out`, a folder that `AutoModelForCausalLM` opens.

    Beside it stand the tokenizer, `training.json` and `samples.json`. price: of all machines, an
    hour. strategy: what several processes share; see `launch`. asked: to stop; see `train`.

    Raises:
        ValueError: the batch is smaller than a sequence, or the corpus too short.
    """
    from transformers import AutoTokenizer

    from components.training.next_token import NextToken

    context = model_block.context
    rows = block.rows(context)
    opened = AutoTokenizer.from_pretrained(tokenizer)
    model = llama.build(model_block, opened, block.seed)
    if block.activation_checkpointing:
        model.activation_checkpointing_enable()
    windows = Windows(*open_tokens(tokens, "train"), context, block.seed)
    held_out = open_tokens(tokens, "validation")[0]
    parameters = sum(p.numel() for p in model.parameters())
    epochs = block.tokens / (windows.count * context)
    report.params({"parameters": parameters, "steps": block.steps, "epochs": round(epochs, 3)})
    history = train(
        NextToken(model, windows, held_out, rows, block.documents == "apart"),
        replace(_plan(block, model, tokens), price=price, strategy=strategy),
        Checkpoints(checkpoints, identity),
        report,
        asked,
    )
    whole = devices.whole(model.state_dict())
    if devices.first():
        model = llama.build(model_block, opened, block.seed)
        model.load_state_dict(whole)
        _keep(model.eval(), opened, held_out, history, block, out)
        report.text("samples.txt", _shown(out))
    last = {key: history[-1][key] for key in ("loss", "validation_loss")}
    return {**last, "parameters": float(parameters)}


def _keep(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    held_out: np.ndarray,
    history: list[dict[str, float]],
    block: Pretrain,
    out: Path,
) -> None:
    """Write what the training made into `out`."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    counts = {"parameters": model.num_parameters(), "tokens": block.steps * block.batch_tokens}
    write_json(out / "training.json", {"history": history, **counts})
    write_json(out / "samples.json", _samples(model, tokenizer, held_out, block.seed))


def _shown(out: Path) -> str:
    samples = read_json(out / "samples.json")
    return "\n\n".join(f"{sample['prompt']}|{sample['text']}" for sample in samples)


def _plan(block: Pretrain, model: "PreTrainedModel", tokens: Path) -> Plan:
    context = model.config.max_position_embeddings
    counts = [read_json(tokens / "tokens.json")["splits"][s] for s in ("train", "validation")]
    micro = block.micro_batch_tokens
    shared = ("learning_rate", "warmup", "weight_decay", "clip", "checkpoint_minutes", "precision")
    same = ("steps", "seed", "schedule", "optimizer", "compile", "exact")
    return Plan(
        rows=block.rows(context),
        evaluate_every=evaluate_every(block.steps, block.evaluations),
        micro_rows=micro // context if micro else None,
        tokens=block.batch_tokens,
        flops=llama.training_flops(model.config, sum(p.numel() for p in model.parameters())),
        bytes_per_token=tuple(split["bytes"] / split["tokens"] for split in counts),
        **{key: getattr(block, key) for key in (*shared, *same)},
    )


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
