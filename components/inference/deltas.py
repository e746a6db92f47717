"""Adapters that change products: LoRA, DoRA and (IA)^3, read from PEFT's folders.

All three are one form at each product of a layer,

    y = scale * (W x + B A x)

LoRA has no scale; DoRA's is its magnitudes over the norms of the rows of W + B A; (IA)^3 has only
scales: of keys, values, and of what the down projection reads, which is what the up projection
gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.inference.checkpoint import SITES, Unsupported
from components.inference.delta_kernel import AS, BS, FIELDS, MOST_RANK, PANELS, RANKS, SCALES
from components.inference.tiles import LANES, NARROW
from components.inference.weights import Weights

if TYPE_CHECKING:
    from peft import PeftConfig

PREFIX = "base_model.model."
PLACES = {name: (site, n) for site, names in SITES.items() for n, name in enumerate(names)}
MAGNITUDE = "lora_magnitude_vector"


@dataclass(frozen=True)
class Delta:
    """An adapter's matrices in memory, and where they lie.

    told: (sites of all layers, FIELDS), as `delta_kernel` reads it. arrays: what that points to.
    """

    told: np.ndarray
    arrays: tuple[np.ndarray, ...]

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


class Slots:
    """Which delta each slot stands for; slot 0 is none."""

    def __init__(self, layers: int, most: int) -> None:
        """most: deltas in memory at once."""
        self.table = np.zeros((most + 1, layers * len(SITES), FIELDS), np.int64)
        self._held: dict[int, Delta] = {}
        self._free = list(range(most, 0, -1))

    def put(self, delta: Delta) -> int:
        """The slot that stands for `delta` from now on. There must be a free one."""
        slot = self._free.pop()
        self.table[slot], self._held[slot] = delta.told, delta
        return slot

    def drop(self, slot: int) -> None:
        """Free a slot that no request has."""
        del self._held[slot]
        self._free.append(slot)


class _Maker:
    """Collects an adapter's arrays by site."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.told = np.zeros((weights.shape.layers * len(SITES), FIELDS), np.int64)
        self.arrays: list[np.ndarray] = []
        self.shrinks: dict[int, dict[int, np.ndarray]] = {}  # As by site and segment
        self.scales: dict[int, np.ndarray] = {}

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
        """The base's, (outputs, inputs)."""
        site, _, first, last = self.site(module)
        layer, name = divmod(site, len(SITES))
        return self.weights.layers[layer].products[list(SITES)[name]].weight[:, first:last].t()

    def low_rank(self, module: str, a: torch.Tensor, b: torch.Tensor) -> None:
        """a: (rank, inputs); b: (outputs, rank), its scaling in it."""
        site, segment, _, _ = self.site(module)
        wanted = self.matrix(module).shape
        if (b.shape[0], a.shape[1]) != tuple(wanted) or len(a) > MOST_RANK:
            raise Unsupported(
                f"the delta of {module} is {tuple(b.shape)} x {tuple(a.shape)}, the matrix "
                f"{tuple(wanted)}, and a rank at most {MOST_RANK}"
            )
        self.shrinks.setdefault(site, {})[segment] = a.float().numpy()
        self.told[site, RANKS + segment] = len(a)
        self.told[site, BS + segment] = self._held(_panels(b.t().float().numpy(), LANES))

    def scale(self, module: str, values: torch.Tensor) -> None:
        """values: (outputs,), which multiply what the module gives."""
        site, _, first, last = self.site(module)
        layer, name = divmod(site, len(SITES))
        width = self.weights.layers[layer].products[list(SITES)[name]].ends[-1]
        whole = self.scales.setdefault(site, np.ones(width, np.float32))
        whole[first:last] *= values.float().numpy()

    def finished(self) -> Delta:
        for site, of_segments in self.shrinks.items():
            side_by_side = np.concatenate([of_segments[n].T for n in sorted(of_segments)], axis=1)
            panels = _panels(side_by_side, NARROW)
            self.told[site, PANELS], self.told[site, AS] = len(panels), self._held(panels)
        for site, values in self.scales.items():
            self.told[site, SCALES] = self._held(values)
        return Delta(self.told, tuple(self.arrays))

    def _held(self, array: np.ndarray) -> int:
        """Its address; it stays where it is."""
        self.arrays.append(array)
        return array.ctypes.data


def _panels(matrix: np.ndarray, lanes: int) -> np.ndarray:
    """(lines, columns) as (panels, lines, lanes), the last panel filled up with zeros."""
    lines, columns = matrix.shape
    count = -(-columns // lanes)
    filled = np.zeros((lines, count * lanes), np.float32)
    filled[:, :columns] = matrix
    return np.ascontiguousarray(filled.reshape(lines, count, lanes).transpose(1, 0, 2))


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
    return made.finished()


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
    return made.finished()


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
