"""How far back a language model looks: by its gradient, and by what it says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluation.document_nats import Reader
from components.evaluation.metrics import bootstrap_interval
from components.training.windows import spaced

if TYPE_CHECKING:
    import torch

ROWS = 64  # sequences
BATCH = 16
LEAST = 1e-9  # norm that the others are held against, where the nearest token has none
DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # tokens


def measure(
    model: "torch.nn.Module", reader: Reader, documents: Sequence[Sequence[int]], context: int
) -> dict[str, Any]:
    """For each distance in tokens, with intervals over sequences: `gradient`, the norm of the
    last loss's gradient by the vector of the token that far back, relative to the nearest one's
    mean (Pascanu et al. 2013, section 2: it vanishes); `memory`, how the prediction changes where
    that token is exchanged for another one, as they are in the text, as a divergence in nats.
    """
    text = np.concatenate([np.array(document, dtype=np.int64) for document in documents])
    ids = spaced(text, min(context, DISTANCES[-1] + 1), ROWS)  # (sequences, length)
    distances = [distance for distance in DISTANCES if distance < ids.shape[1]]
    norms = _gradients(model, reader, ids)
    kept = _memories(reader, ids, distances)
    relative = norms / max(norms[:, -1].mean(), LEAST)
    return {
        "distances": distances,
        "gradient": [_told(relative[:, -d]) for d in distances],
        "memory": [_told(kept[:, place]) for place in range(len(distances))],
        "sequences": len(ids),
    }


def _told(values: np.ndarray) -> dict[str, Any]:
    low, high = bootstrap_interval(values)
    return {"score": float(values.mean()), "interval": [low, high]}


def _gradients(model: "torch.nn.Module", reader: Reader, ids: np.ndarray) -> np.ndarray:
    """Norms of the last token's loss by the vector of each token that was read.

    ids: (sequences, length); returned: (sequences, length - 1).
    """
    import torch
    from torch.nn.functional import cross_entropy

    found: list[torch.Tensor] = []
    vectors: list[torch.Tensor] = []

    def keep(_module: Any, _given: Any, made: "torch.Tensor") -> "torch.Tensor":
        vectors.append(made.detach().requires_grad_())
        return vectors[-1]

    handle = model.get_input_embeddings().register_forward_hook(keep)
    try:
        for start in range(0, len(ids), BATCH):
            rows = torch.from_numpy(ids[start : start + BATCH])
            logits = reader.logits(rows[:, :-1])[:, -1]
            loss = cross_entropy(logits, rows[:, -1], reduction="sum")
            (gradient,) = torch.autograd.grad(loss, vectors[-1])
            found.append(gradient.norm(dim=-1)[:, -(ids.shape[1] - 1) :])
    finally:
        handle.remove()
    return torch.cat(found).numpy().astype(np.float64)


def _memories(reader: Reader, ids: np.ndarray, distances: Sequence[int]) -> np.ndarray:
    """Divergences of the last prediction from that behind an exchanged token. The one at distance 1
    is the last that was read. (sequences, distances).
    """
    import torch

    random = np.random.default_rng(0)
    found = []
    with torch.no_grad():
        for start in range(0, len(ids), BATCH):
            rows = ids[start : start + BATCH]
            true = reader.logits(torch.from_numpy(rows))[:, -1].log_softmax(-1)
            columns = []
            for distance in distances:
                changed = rows.copy()
                exchanged = [_another(token, ids.ravel(), random) for token in rows[:, -distance]]
                changed[:, -distance] = exchanged
                other = reader.logits(torch.from_numpy(changed))[:, -1].log_softmax(-1)
                columns.append((true.exp() * (true - other)).sum(-1).clamp_min(0))
            found.append(torch.stack(columns, 1))
    return torch.cat(found).numpy().astype(np.float64)


def _another(token: int, text: np.ndarray, random: np.random.Generator) -> int:
    """A token other than `token`, drawn as they are in `text`; the same where it has no other."""
    others = text[text != token]
    return random.choice(others) if len(others) else token
