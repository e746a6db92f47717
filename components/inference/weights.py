"""A decoder in memory: what its matrices are called, laid side by side for few large products."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from components.inference.product import DTYPES, FLOAT32, AnyProduct, product

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Layer:
    """products: by site, as `checkpoint.SITES`. norms: before attention and before the gate, each
    (width,); head_norms: of a query and of a key, (2, size), where the family has them; float32.
    """

    products: Mapping[str, AnyProduct]
    norms: tuple[torch.Tensor, torch.Tensor]
    head_norms: torch.Tensor | None


@dataclass(frozen=True)
class Weights:
    """A decoder in memory. embeddings: (vocabulary, width); head: from width to vocabulary.

    precision: of products, as `product` knows it. device: where all of it lies; None: in the
    processor's memory, for its kernels.
    """

    shape: Shape
    precision: str
    embeddings: torch.Tensor
    head: AnyProduct
    layers: tuple[Layer, ...]
    last_norm: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    device: torch.device | None = None

    @property
    def bytes(self) -> int:
        products = [held for layer in self.layers for held in layer.products.values()]
        return self.embeddings.nbytes + sum(held.bytes for held in (self.head, *products))


def load(folder: Path, precision: str = FLOAT32, device: torch.device | None = None) -> Weights:
    """The decoder of a model folder.

    Raises:
        Unsupported: it is none of the family, or lacks tensors.
        ValueError: this machine has no products of that precision.
    """
    return assemble(config_of(folder), tensors_of(folder), precision, device)


def assemble(
    config: "PretrainedConfig",
    tensors: Mapping[str, torch.Tensor],
    precision: str,
    device: torch.device | None,
) -> Weights:
    """The decoder of a config and tensors by their names in a checkpoint."""
    shape = shape_of(config)
    place = _Place(precision, device)
    cos, sin = rotary(config, shape)
    try:
        names = [f"model.layers.{n}." for n in range(shape.layers)]
        layers = tuple(_layer(tensors, name, place) for name in names)
        embeddings = tensors["model.embed_tokens.weight"]
        head = embeddings if config.tie_word_embeddings else tensors.get("lm_head.weight")
        norm = tensors["model.norm.weight"]
    except KeyError as error:
        raise Unsupported(f"there is no tensor {error}: the layout is not Llama's") from error
    head = embeddings if head is None else head  # of a classifier, which has none and needs none
    return Weights(
        shape,
        precision,
        *place.both_ends(embeddings, head),
        layers,
        place.small(norm),
        place.small(cos),
        place.small(sin),
        device,
    )


@dataclass(frozen=True)
class _Place:
    """Where tensors go, and how exact they are."""

    precision: str
    device: torch.device | None

    def product(
        self, matrices: Sequence[torch.Tensor], biases: Sequence[torch.Tensor | None]
    ) -> AnyProduct:
        return product(matrices, biases, self.precision, self.device)

    def both_ends(
        self, embeddings: torch.Tensor, head: torch.Tensor
    ) -> tuple[torch.Tensor, AnyProduct]:
        """Embeddings and the output layer. On a GPU the former are rounded too, and tied ones are
        there once; our kernels read them as they were.
        """
        made = self.product([head], [None])
        if self.device is None:
            return embeddings.contiguous(), made
        if head is embeddings:
            return made.weight.t(), made
        return embeddings.to(self.device, DTYPES[self.precision]), made

    def small(self, tensor: torch.Tensor) -> torch.Tensor:
        """In float32: what has a number for each feature or position."""
        return tensor if self.device is None else tensor.to(self.device)


def _layer(tensors: Mapping[str, torch.Tensor], name: str, place: _Place) -> Layer:
    products = {}
    for site, names in SITES.items():
        matrices = [tensors[f"{name}{matrix}.weight"] for matrix in names]
        biases = [tensors.get(f"{name}{matrix}.bias") for matrix in names]
        products[site] = place.product(matrices, biases)
    norms = tuple(
        place.small(tensors[f"{name}{norm}.weight"])
        for norm in ("input_layernorm", "post_attention_layernorm")
    )
    of_heads = [tensors.get(f"{name}self_attn.{which}_norm.weight") for which in "qk"]
    head_norms = None if of_heads[0] is None else place.small(torch.stack(of_heads))
    return Layer(products, norms, head_norms)
