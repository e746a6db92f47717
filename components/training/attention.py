"""Which implementation of attention trains fastest on this machine."""

from typing import TYPE_CHECKING

from components.training import machine

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

SCORE_BYTES = 6.0  # of one probability that plain attention keeps: in float32 and in bfloat16
KEPT_BYTES = 80.0  # of all else that a layer keeps, for each dimension (`llama.activation_bytes`)


def is_plain(config: "PretrainedConfig", precision: machine.Precision) -> bool:
    """Whether plain products and a softmax are faster than the fused kernel.

    They are in a processor's bfloat16, where the fused backward pass makes no use of the matrix
    units (`python bench/attention.py`). They keep their scores: while those take no more memory
    than everything else that is kept.
    """
    if precision != "bfloat16" or machine.device().type != "cpu":
        return False
    scores = config.num_attention_heads * config.max_position_embeddings
    return SCORE_BYTES * scores <= KEPT_BYTES * config.hidden_size


def score_bytes(config: "PretrainedConfig", precision: machine.Precision) -> float:
    """Bytes that the scores of plain attention take for a token, where it is chosen; else 0."""
    if not is_plain(config, precision):
        return 0.0
    scores = config.num_attention_heads * config.max_position_embeddings
    return SCORE_BYTES * config.num_hidden_layers * scores


def suit(model: "PreTrainedModel", precision: machine.Precision) -> None:
    """Let `model` train with the faster one."""
    if is_plain(model.config, precision):
        model.set_attn_implementation("eager")
