"""Virtual tokens before a row's own: soft prompts (vectors), and prefixes of keys and values."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.inference.checkpoint import Shape, Unsupported

if TYPE_CHECKING:
    from peft import PeftConfig

WEIGHTS = "adapter_model.safetensors"
SOFT = ("PROMPT_TUNING", "P_TUNING")


@dataclass(frozen=True)
class Virtual:
    """One of the two: vectors (tokens, width), which are read as tokens are; or what stands in the
    cache as it is, past (layers, 2, key heads, tokens, size).
    """

    vectors: np.ndarray | None = None
    past: np.ndarray | None = None

    @property
    def count(self) -> int:
        if self.vectors is not None:
            return len(self.vectors)
        return 0 if self.past is None else self.past.shape[3]

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in (self.vectors, self.past) if array is not None)


NONE = Virtual()


def read(folder: Path, config: "PeftConfig", shape: Shape) -> Virtual:
    """The virtual tokens of a PEFT folder: prompt tuning, P-tuning, or prefix tuning.

    Raises:
        Unsupported: they are of another size than the base's.
    """
    from safetensors.numpy import load_file

    found = load_file(folder / WEIGHTS)["prompt_embeddings"].astype(np.float32)
    if config.peft_type in SOFT:
        wanted = shape.width
    else:
        wanted = 2 * shape.layers * shape.key_heads * shape.size
    if found.ndim != 2 or found.shape[1] != wanted:
        raise Unsupported(
            f"{folder} holds virtual tokens of shape {found.shape}; this base's are (n, {wanted})"
        )
    if config.peft_type in SOFT:
        return Virtual(vectors=np.ascontiguousarray(found))
    past = found.reshape(-1, shape.layers, 2, shape.key_heads, shape.size)
    return Virtual(past=np.ascontiguousarray(past.transpose(1, 2, 3, 0, 4)))
