"""The decoder that kindling pretrains: Llama's architecture (Touvron et al. 2023), any size."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from components.block import Block

if TYPE_CHECKING:
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        PretrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
    )

# SwiGLU has three matrices where a plain feed-forward layer has two: 2/3 of 4 x width keeps the
# parameters equal (Shazeer 2020, section 2), rounded up to a multiple that kernels like
FEED_FORWARD = 8 / 3
ROUND_TO = 32
INITIAL_DEVIATION = 0.02
# of a layer, as transformers calls them; where an adapter may stand
MATRICES = (
    *("q_proj", "k_proj", "v_proj", "o_proj"),
    *("gate_proj", "up_proj", "down_proj"),
)


class Model(Block):
    """The size of a decoder. context: the longest sequence, in tokens."""

    layers: int = Field(ge=1)
    width: int = Field(ge=8)
    heads: int = Field(ge=1)
    context: int = Field(ge=8)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Model":
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must be a multiple of 2 x heads ({2 * self.heads}): rotary "
                "positions turn pairs of a head's dimensions"
            )
        return self


class Decoder(Model):
    """The same as a rung of the ladder: GPT's place in it."""

    family: Literal["decoder"]


def build(block: Model, tokenizer: "PreTrainedTokenizerBase", seed: int) -> "LlamaForCausalLM":
    """A randomly initialised model for `tokenizer`'s vocabulary."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden = -(-int(block.width * FEED_FORWARD) // ROUND_TO) * ROUND_TO
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=block.width,
        intermediate_size=hidden,
        num_hidden_layers=block.layers,
        num_attention_heads=block.heads,
        max_position_embeddings=block.context,
        initializer_range=INITIAL_DEVIATION,
        tie_word_embeddings=True,  # a small model's embeddings are most of its parameters
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def training_flops(config: "LlamaConfig", parameters: int) -> float:
    """FLOPs of forward and backward for one token, at the longest context, without recomputation.

    6 for each parameter that multiplies it (Kaplan et al. 2020, table 1; an embedding that is not
    the output matrix too only looks up), and 6 x layers x width x context for causal attention:
    half of the 12 of Chowdhery et al. 2022, appendix B, as half of the products are masked.
    """
    tables = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    attention = config.num_hidden_layers * config.hidden_size * config.max_position_embeddings
    return 6.0 * (parameters - tables) + 6.0 * attention


def activation_bytes(config: "PretrainedConfig", checkpointing: bool = False) -> float:
    """Bytes that training keeps for one token until its backward pass, in float32.

    A layer keeps 10 x width (both norms' inputs and outputs, rotated queries and keys, values, what
    attention made) and 4 x feed-forward (gate, its activation, up, their product), a sum for
    each head and norm; `tests/test_training.py` holds it against what autograd saves. Other
    families keep about as much. checkpointing: it keeps its input, and makes the rest anew when
    its turn comes.
    """
    layers, width = config.num_hidden_layers, config.hidden_size
    layer = 10 * width + 4 * _feed_forward(config) + config.num_attention_heads + 2
    return 4.0 * (layers * width + layer) if checkpointing else 4.0 * layers * layer


def _feed_forward(config: "PretrainedConfig") -> int:
    """The width between a layer's two feed-forward products; GPT-2 calls it `n_inner`, or not."""
    names = ("intermediate_size", "n_inner")
    found = next(filter(None, (getattr(config, name, None) for name in names)), None)
    return found or 4 * config.hidden_size


def load(base: Path) -> "PreTrainedModel":
    """The model of a base folder, in evaluation mode and float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def randomised(base: Path, seed: int) -> "PreTrainedModel":
    """A model of `base`'s form that has learned nothing: shows what pretraining gave."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(base)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
