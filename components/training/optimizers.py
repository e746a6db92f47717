"""The optimisers that the catalogue knows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Optimizer = Literal["adamw", "muon"]
BETAS = (0.9, 0.95)  # Brown et al. 2020, appendix B (GPT-3)


def build(
    name: Optimizer, module: "torch.nn.Module", learning_rate: float, weight_decay: float
) -> list["torch.optim.Optimizer"]:
    """The optimisers of what is trainable in `module`; each group's rate is set step by step.

    adamw: matrices decay, gains and biases do not (Brown et al. 2020, appendix B). muon: updates of
    hidden matrices are made orthogonal (Jordan et al. 2024) and scaled to the size of AdamW's (Liu
    et al. 2025, section 2.2), so that both take one learning rate; embeddings, gains and biases
    stay with AdamW.
    """
    import torch

    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    if name == "adamw":
        return [_adamw([p for _, p in named], learning_rate, weight_decay)]
    tables = {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Embedding)}
    hidden = [p for n, p in named if p.ndim == 2 and id(p) not in tables and "lm_head" not in n]
    chosen = {id(p) for p in hidden}
    rest = [p for _, p in named if id(p) not in chosen]
    muon = torch.optim.Muon(
        hidden, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, _adamw(rest, learning_rate, weight_decay)]


def _adamw(
    parameters: Sequence["torch.Tensor"], learning_rate: float, weight_decay: float
) -> "torch.optim.AdamW":
    import torch

    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True)
