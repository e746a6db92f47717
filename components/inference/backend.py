"""What a batcher computes with: the processor, or a device; each has kernels of its own."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

import torch

from components.inference.blocks import Pool
from components.inference.decoder import Decoder
from components.inference.device_store import DeviceStore
from components.inference.slots import Slots
from components.inference.store import Store
from components.inference.weights import Weights

if TYPE_CHECKING:
    from components.inference.device_decoder import DeviceDecoder

AnyDecoder = Union[Decoder, "DeviceDecoder"]


@dataclass(frozen=True)
class Limits:
    """rows: requests in a batch; chunk: tokens of prompts in a step; pool_bytes: of keys and
    values; adapters: in memory at once.
    """

    rows: int = 32
    chunk: int = 128
    pool_bytes: int = 1 << 28
    adapters: int = 1024


def device_named(name: str) -> torch.device | None:
    """A device by its name in the catalogue; None: the processor, with our kernels.

    Raises:
        ValueError: a GPU is asked for where there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ValueError(
            "device cuda: torch finds no GPU here; set 'device: auto' in the catalogue's block "
            "'serving'"
        )
    return torch.device("cuda") if there and name != "cpu" else None


def decoder_of(weights: Weights, limits: Limits) -> AnyDecoder:
    """A decoder with its pool and its slots, where the weights lie."""
    shape, most = weights.shape, limits.rows + limits.chunk
    if weights.device is None:
        store = Store(shape, max(limits.pool_bytes // Store.bytes_of_block(shape), 1))
        slots = Slots(shape.layers, limits.adapters)
        return Decoder(weights, Pool(store, limits.rows, shape.context), slots, most)
    # Triton, which they need, comes with torch's builds for GPUs alone
    from components.inference.device_decoder import DeviceDecoder
    from components.inference.device_slots import DeviceSlots

    pool = Pool(DeviceStore(weights, _blocks(weights, limits)), limits.rows, shape.context)
    return DeviceDecoder(weights, pool, DeviceSlots(weights, limits.adapters, limits.rows), most)


def pool_bytes(weights: Weights, limits: Limits) -> int:
    """What the pool of a decoder of `weights` takes from its beginning.

    On the processor nothing: its pages take memory when they are used.
    """
    if weights.device is None:
        return 0
    size = DeviceStore.bytes_of_block(weights.shape, weights.embeddings.dtype)
    return (_blocks(weights, limits) + 1) * size  # the spare one too


def _blocks(weights: Weights, limits: Limits) -> int:
    """How many blocks a pool on a device has."""
    size = DeviceStore.bytes_of_block(weights.shape, weights.embeddings.dtype)
    return max(limits.pool_bytes // size, 1)
