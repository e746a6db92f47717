"""Decoders of the Llama family as they lie in a folder: config.json and safetensors.

Llama, Mistral, Qwen2 and Qwen3 differ by a bias, a norm of queries and keys, and sizes; all name
their tensors alike. Whatever else a config asks for is refused by name, never ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from components.lineage import read_json

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder. size: of a head; context: the longest sequence, in tokens."""

    layers: int
    width: int
    heads: int
    key_heads: int
    size: int
    feed_forward: int
    vocabulary: int
    context: int
    eps: float


class Unsupported(ValueError):
    """A checkpoint that this engine cannot run; transformers may."""


def config_of(folder: Path) -> "PretrainedConfig":
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder)


def shape_of(config: "PretrainedConfig") -> Shape:
    """The sizes that `config` states.

    Raises:
        Unsupported: it is of another family, or asks for what the forward pass does not do.
    """
    if config.model_type not in FAMILIES:
        raise Unsupported(
            f"model_type '{config.model_type}' is none of {', '.join(FAMILIES)}: transformers "
            "serves it"
        )
    if config.hidden_act not in ("silu", "swish"):
        raise Unsupported(f"hidden_act '{config.hidden_act}': only silu is known")
    window = getattr(config, "sliding_window", None)
    uses = getattr(config, "use_sliding_window", True)
    if window is not None and uses and window < config.max_position_embeddings:
        raise Unsupported(
            f"sliding_window {window} is shorter than the context "
            f"{config.max_position_embeddings}: only full attention is known"
        )
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(
        config.num_hidden_layers,
        config.hidden_size,
        heads,
        config.num_key_value_heads or heads,
        size,
        config.intermediate_size,
        config.vocab_size,
        config.max_position_embeddings,
        config.rms_norm_eps,
    )


def rotary(config: "PretrainedConfig", shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin by position, each (context, size / 2), with the factor of the attention.

    Frequencies are transformers' own, so that each scaling that depends on no request's length
    (default, linear, llama3, yarn) is the same to the bit.

    Raises:
        Unsupported: the scaling changes with the length of a request.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    settings = config.rope_parameters
    kind = settings["rope_type"]
    if settings.get("partial_rotary_factor", 1.0) != 1.0:
        part = settings["partial_rotary_factor"]
        raise Unsupported(f"partial_rotary_factor {part}: only whole heads are rotated here")
    if kind in ("dynamic", "longrope"):
        raise Unsupported(f"rope_type '{kind}' changes with a request's length, and is not known")
    if kind == "default":
        steps = torch.arange(0, shape.size, 2, dtype=torch.int64).float() / shape.size
        frequencies, factor = 1.0 / settings["rope_theta"] ** steps, 1.0
    else:
        frequencies, factor = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    angles = torch.outer(torch.arange(shape.context).float(), frequencies)  # (context, size / 2)
    return (angles.cos() * factor).contiguous(), (angles.sin() * factor).contiguous()


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a model folder by name, in float32, whatever number of files they are in."""
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(read_json(index)["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    found: dict[str, torch.Tensor] = {}
    for name in names:
        found |= {key: value.float() for key, value in load_file(folder / name).items()}
    return found


SITES: Mapping[str, tuple[str, ...]] = {  # a product by the matrices that lie in it
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
