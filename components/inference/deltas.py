"""Adapters that change products: LoRA, DoRA and (IA)^3, read from PEFT's folders.

All three are one form at each product of a layer,

    y = scale * (W x + B A x)

LoRA has no scale; DoRA's is its magnitudes over the norms of the rows of W + B A; (IA)^3 has only
scales: of keys, values, and of what the down projection reads, which is what the up projection
gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.inference.checkpoint import SITES, Unsupported
from components.inference.delta_kernel import MOST_RANK
from components.inference.product import AnyProduct
from components.inference.weights import Weights

if TYPE_CHECKING:
    from peft import PeftConfig

PREFIX = "base_model.model."
PLACES = {name: (site, n) for site, names in SITES.items() for n, name in enumerate(names)}
MAGNITUDE = "lora_magnitude_vector"


@dataclass(frozen=True)
class Change:
    """What an adapter does to one product. shrinks: A (rank, inputs), and expands: B (rank,
    outputs), its scaling in it, both by the number of the matrix in the product; scale: of all
    that the product gives, where there is one.
    """

    shrinks: dict[int, np.ndarray]
    expands: dict[int, np.ndarray]
    scale: np.ndarray | None = None

    @property
    def arrays(self) -> list[np.ndarray]:
        scales = [] if self.scale is None else [self.scale]
        return [*self.shrinks.values(), *self.expands.values(), *scales]


@dataclass(frozen=True)
class Delta:
    """An adapter's matrices on the host. changes: by site, layer * sites + site."""

    changes: Mapping[int, Change]

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for change in self.changes.values() for array in change.arrays)


class _Maker:
    """Collects an adapter's arrays by site."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.changes: dict[int, Change] = {}

    def site(self, module: str) -> tuple[int, int, int, int]:
        """Of a module ("model.layers.2.mlp.up_proj"): its site, segment, first and last output."""
        head, _, rest = module.removeprefix("model.layers.").partition(".")
        if not head.isdigit() or rest not in PLACES:
            raise Unsupported(f"an adapter of {module}: only a layer's products can be adapted")
        name, segment = PLACES[rest]
        ends = (0, *self.weights.layers[int(head)].products[name].ends)
        site = int(head) * len(SITES) + list(SITES).index(name)
        return site, segment, ends[segment], ends[segment + 1]

    def matrix(self, module: str) -> torch.Tensor:
        """The base's, (outputs, inputs), in float32 on the host."""
        site, _, first, last = self.site(module)
        return self.product(site).weight[:, first:last].t().float().cpu()

    def product(self, site: int) -> AnyProduct:
        layer, name = divmod(site, len(SITES))
        return self.weights.layers[layer].products[list(SITES)[name]]

    def change(self, site: int) -> Change:
        return self.changes.setdefault(site, Change({}, {}))

    def low_rank(self, module: str, a: torch.Tensor, b: torch.Tensor) -> None:
        """a: (rank, inputs); b: (outputs, rank), its scaling in it."""
        site, segment, first, last = self.site(module)
        wanted = (last - first, self.product(site).inputs)
        if (b.shape[0], a.shape[1]) != wanted or len(a) > MOST_RANK:
            raise Unsupported(
                f"the delta of {module} is {tuple(b.shape)} x {tuple(a.shape)}, the matrix "
                f"{wanted}, and a rank at most {MOST_RANK}"
            )
        change = self.change(site)
        change.shrinks[segment] = a.float().numpy()
        change.expands[segment] = b.t().float().numpy()

    def scale(self, module: str, values: torch.Tensor) -> None:
        """values: (outputs,), which multiply what the module gives."""
        site, _, first, last = self.site(module)
        change = self.change(site)
        if change.scale is None:
            change = replace(change, scale=np.ones(self.product(site).ends[-1], np.float32))
            self.changes[site] = change
        change.scale[first:last] *= values.float().numpy()


def read_lora(folder: Path, config: "PeftConfig", weights: Weights) -> Delta:
    """LoRA (Hu et al. 2021), rank-stabilised or not, and DoRA (Liu et al. 2024).

    Raises:
        Unsupported: the folder holds more than low-rank matrices and magnitudes.
    """
    _refuse(config, {"bias": "none", "modules_to_save": None, "fan_in_fan_out": False})
    modules = _by_module(folder)
    made = _Maker(weights)
    for module, found in modules.items():
        known = {"lora_A.weight", "lora_B.weight", MAGNITUDE, f"{MAGNITUDE}.weight"}
        if unknown := found.keys() - known:
            raise Unsupported(f"{folder} holds {module}.{min(unknown)}, which is not known here")
        a, b = found["lora_A.weight"].float(), found["lora_B.weight"].float()
        b = b * _scaling(config, module, len(a))
        made.low_rank(module, a, b)
        magnitude = found.get(MAGNITUDE, found.get(f"{MAGNITUDE}.weight"))
        if magnitude is not None:
            norms = (made.matrix(module) + b @ a).norm(dim=1)
            made.scale(module, magnitude.float() / norms)
    return Delta(made.changes)


def read_ia3(folder: Path, config: "PeftConfig", weights: Weights) -> Delta:
    """(IA)^3 (Liu et al. 2022).

    Raises:
        Unsupported: it scales the inputs of another module than the down projection.
    """
    _refuse(config, {"modules_to_save": None, "fan_in_fan_out": False})
    made = _Maker(weights)
    for module, found in _by_module(folder).items():
        values = found["ia3_l"]
        if values.shape[1] == 1 and values.shape[0] == len(made.matrix(module)):
            made.scale(module, values[:, 0])
        elif module.endswith("mlp.down_proj"):
            made.scale(module.replace("down_proj", "up_proj"), values[0])
        else:
            raise Unsupported(f"{folder} scales what {module} reads, which is not known here")
    return Delta(made.changes)


def _refuse(config: "PeftConfig", usual: Mapping[str, Any]) -> None:
    for name, value in usual.items():
        found = getattr(config, name)
        if found != value:
            raise Unsupported(f"{name}: {found} is not known here, only {value}")


def _scaling(config: "PeftConfig", module: str, rank: int) -> float:
    """What the delta is multiplied by: alpha / rank, or alpha / sqrt(rank)."""
    from peft.utils.other import get_pattern_key

    patterns = config.alpha_pattern
    alpha = patterns.get(get_pattern_key(patterns, module), config.lora_alpha)
    return alpha / (rank**0.5 if config.use_rslora else rank)


def _by_module(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The folder's tensors by the module that they adapt and by what they are to it."""
    from safetensors.torch import load_file

    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(folder / "adapter_model.safetensors").items():
        module, _, what = key.removeprefix(PREFIX).rpartition("_proj.")
        found.setdefault(f"{module}_proj", {})[what] = tensor
    return found


READERS = {"LORA": read_lora, "IA3": read_ia3}
