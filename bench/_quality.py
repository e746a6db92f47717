"""What a precision costs: a base that has learned a little, read in float32 and in bfloat16."""

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM

from components.inference.request import Reading, Request
from components.serving.batched_engine import BatchedEngine
from components.tokens import open_tokens

ROWS, LENGTH, RATE = 16, 128, 1e-3
READ = 64  # windows of the validation split


def learn(model: LlamaForCausalLM, tokens: Path, steps: int) -> None:
    """So many steps of AdamW on the training split: random weights have no opinion to lose."""
    held, _ = open_tokens(tokens, "train")
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 10) * (1 - step / steps)
        starts = random.integers(0, len(held) - LENGTH, ROWS)
        ids = torch.from_numpy(np.stack([held[n : n + LENGTH] for n in starts]).astype(np.int64))
        ids = ids.to(model.device)
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    model.eval()


def windows(tokens: Path) -> list[list[int]]:
    held, _ = open_tokens(tokens, "validation")
    count = min(READ, len(held) // LENGTH)
    return held[: count * LENGTH].reshape(count, LENGTH).astype(int).tolist()


def said(engine: BatchedEngine, texts: list[list[int]]) -> torch.Tensor:
    """The logits at each position of each text, (texts, LENGTH, vocabulary)."""
    decoder = engine.batcher.decoder
    asked = [Request(ids, Reading(range(LENGTH), decoder.logits)) for ids in texts]
    for request in asked:
        engine.batcher.submit(request)
    return torch.stack([request.answers.get() for request in asked])


def loss_of(exact: torch.Tensor, fast: torch.Tensor, texts: list[list[int]]) -> dict[str, float]:
    """What `fast` logits lose to `exact` ones.

    greedy_agreement: share of positions whose likeliest token is the same; logit_difference: mean
    of absolutes; perplexity: of the texts' own tokens, in both.
    """
    targets = torch.tensor(texts)[:, 1:]

    def perplexity(logits: torch.Tensor) -> float:
        chosen = logits[:, :-1].log_softmax(-1).gather(-1, targets[..., None])
        return float((-chosen.mean()).exp())

    same = exact.argmax(-1) == fast.argmax(-1)
    return {
        "greedy_agreement": round(float(same.float().mean()), 4),
        "logit_difference": round(float((exact - fast).abs().mean()), 4),
        "logit_difference_most": round(float((exact - fast).abs().max()), 3),
        "perplexity_float32": round(perplexity(exact), 4),
        "perplexity_fast": round(perplexity(fast), 4),
    }
