"""What an adapter's folder comes to beside a decoder: a delta, virtual tokens, a classifier.

lora, dpo, ia3              a delta
prompt_tuning, p_tuning     virtual tokens (vectors), of an ensemble those of each member
prefix_tuning               virtual tokens (keys and values)
prompt                      nothing: the base, asked with worked examples
head                        a matrix from features to labels; with an unfrozen base, as `full`:
full                        a decoder of its own, in a batch of its own
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from components.inference import virtual
from components.inference.checkpoint import Unsupported, config_of, tensors_of
from components.inference.deltas import READERS, Delta
from components.inference.virtual import NONE, Virtual
from components.inference.weights import Weights, assemble, load
from components.lineage import read_json

if TYPE_CHECKING:
    from peft import PeftConfig

CONFIG = "adapter_config.json"
BODY = "model."  # what the tensors of a decoder's body are called in the files of a classifier


@dataclass(frozen=True)
class Adapter:
    """delta, members (virtual tokens, of which the first generates), classifier (width, labels):
    each where the adapter has it. own: the decoder that it works on in place of the base.
    """

    delta: Delta | None = None
    members: tuple[Virtual, ...] = (NONE,)
    classifier: torch.Tensor | None = None
    own: Weights | None = field(default=None, repr=False)

    @property
    def bytes(self) -> int:
        """Of memory, beside the base's."""
        held = sum(member.bytes for member in self.members)
        held += self.delta.bytes if self.delta else 0
        held += self.classifier.nbytes if self.classifier is not None else 0
        return held + (self.own.bytes if self.own else 0)


def read(folder: Path, base: Path, weights: Weights) -> Adapter:
    """The adapter of `folder` for the decoder of folder `base`, which is in memory as `weights`.

    Raises:
        Unsupported: it holds what the engine does not do.
    """
    described = read_json(folder / "adapter.json")
    reader = METHODS.get(described["method"], _peft)
    own = None
    if described["random_base"] is not None and reader is _peft:
        own = _randomised(base, described["random_base"], weights)
    return reader(folder, base, own or weights, own)


def _randomised(base: Path, seed: int, like: Weights) -> Weights:
    """The control's decoder, which has learned nothing, as exact and on the device as `like`."""
    from components.models import llama

    model = llama.randomised(base, seed)
    return assemble(model.config, model.state_dict(), like.precision, like.device)


def _peft(folder: Path, base: Path, weights: Weights, own: Weights | None) -> Adapter:
    configs = [folder / CONFIG, *sorted(folder.glob(f"*/{CONFIG}"))]
    found = [(path.parent, _config(path.parent)) for path in configs]
    kind = found[0][1].peft_type
    if kind in READERS:
        place, config = found[0]
        return Adapter(delta=READERS[kind](place, config, weights), own=own)
    members = tuple(virtual.read(place, config, weights.shape) for place, config in found)
    return Adapter(members=members, own=own)


def _config(folder: Path) -> "PeftConfig":
    from peft import PeftConfig

    return PeftConfig.from_pretrained(str(folder))


def _nothing(folder: Path, base: Path, weights: Weights, own: Weights | None) -> Adapter:
    seed = read_json(folder / "adapter.json")["random_base"]
    return Adapter(own=None if seed is None else _randomised(base, seed, weights))


def _whole(folder: Path, base: Path, weights: Weights, own: Weights | None) -> Adapter:
    return Adapter(own=load(folder, weights.precision, weights.device))


def _head(folder: Path, base: Path, weights: Weights, own: Weights | None) -> Adapter:
    """The classifier alone where the body below is the base's to the bit."""
    tensors, ours = tensors_of(folder), tensors_of(base)
    body = {name: tensor for name, tensor in tensors.items() if name.startswith(BODY)}
    same = all(torch.equal(tensor, ours[name]) for name, tensor in body.items() if name in ours)
    frozen = same and body.keys() == {name for name in ours if name.startswith(BODY)}
    if "score.weight" not in tensors:
        raise Unsupported(f"{folder} holds no score.weight; it is no classifier of this family")
    classifier = tensors["score.weight"].t().contiguous()
    if frozen:
        return Adapter(classifier=classifier)
    own = assemble(config_of(folder), tensors, weights.precision, weights.device)
    return Adapter(classifier=classifier, own=own)


Reader = Callable[[Path, Path, Weights, Any], Adapter]
METHODS: Mapping[str, Reader] = {  # those whose folders are not PEFT's
    "prompt": _nothing,
    "full": _whole,
    "head": _head,
}
