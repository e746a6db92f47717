"""A decoder in memory: what its matrices are called, laid side by side for few large products."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from components.inference.checkpoint import (
    SITES,
    Shape,
    Unsupported,
    config_of,
    rotary,
    shape_of,
    tensors_of,
)
from components.inference.product import FLOAT32, AnyProduct, product

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Layer:
    """products: by site, as `checkpoint.SITES`. norms: before attention and before the gate, each
    (width,); head_norms: of a query and of a key, (2, size), where the family has them.
    """

    products: Mapping[str, AnyProduct]
    norms: tuple[np.ndarray, np.ndarray]
    head_norms: np.ndarray | None


@dataclass(frozen=True)
class Weights:
    """A decoder in memory. embeddings: (vocabulary, width); head: from width to vocabulary.

    precision: of products, as `product` knows it.
    """

    shape: Shape
    precision: str
    embeddings: torch.Tensor
    head: AnyProduct
    layers: tuple[Layer, ...]
    last_norm: np.ndarray
    cos: np.ndarray
    sin: np.ndarray

    @property
    def bytes(self) -> int:
        products = [held for layer in self.layers for held in layer.products.values()]
        return self.embeddings.nbytes + sum(held.bytes for held in (self.head, *products))


def load(folder: Path, precision: str = FLOAT32) -> Weights:
    """The decoder of a model folder.

    Raises:
        Unsupported: it is none of the family, or lacks tensors.
        ValueError: this machine has no products of that precision.
    """
    return assemble(config_of(folder), tensors_of(folder), precision)


def assemble(
    config: "PretrainedConfig", tensors: Mapping[str, torch.Tensor], precision: str
) -> Weights:
    """The decoder of a config and tensors by their names in a checkpoint."""
    shape = shape_of(config)
    cos, sin = rotary(config, shape)
    try:
        names = [f"model.layers.{n}." for n in range(shape.layers)]
        layers = tuple(_layer(tensors, name, precision) for name in names)
        embeddings = tensors["model.embed_tokens.weight"]
        head = embeddings if config.tie_word_embeddings else tensors.get("lm_head.weight")
        norm = tensors["model.norm.weight"]
    except KeyError as error:
        raise Unsupported(f"there is no tensor {error}: the layout is not Llama's") from error
    head = embeddings if head is None else head  # of a classifier, which has none and needs none
    return Weights(
        shape,
        precision,
        embeddings.contiguous(),
        product([head], [None], precision),
        layers,
        norm.numpy(),
        cos.numpy(),
        sin.numpy(),
    )


def _layer(tensors: Mapping[str, torch.Tensor], name: str, precision: str) -> Layer:
    products = {}
    for site, names in SITES.items():
        matrices = [tensors[f"{name}{matrix}.weight"] for matrix in names]
        biases = [tensors.get(f"{name}{matrix}.bias") for matrix in names]
        products[site] = product(matrices, biases, precision)
    norms = tuple(
        tensors[f"{name}{norm}.weight"].numpy()
        for norm in ("input_layernorm", "post_attention_layernorm")
    )
    of_heads = [tensors.get(f"{name}self_attn.{which}_norm.weight") for which in "qk"]
    head_norms = None if of_heads[0] is None else torch.stack(of_heads).numpy()
    return Layer(products, norms, head_norms)
