"""The forward pass over a rectangle of rows and tokens, on a GPU.

Whatever it reads and writes lies at addresses that stay, and nothing in it depends on a number that
the host would have to wait for: so a graph can be captured of it.
"""

from collections.abc import Mapping

import torch

from components.inference.blocks import Pool
from components.inference.decoder import FLOW, of_token
from components.inference.device_attention_kernel import Places, attend, place
from components.inference.device_delta_kernel import add_deltas
from components.inference.device_kernels import add_and_norm, gate
from components.inference.device_slots import DeviceSlots
from components.inference.device_store import DeviceStore, DeviceTables
from components.inference.forms import READING, Form, filled
from components.inference.weights import Weights


class Forward:
    """Weights, keys and values, deltas, and buffers for the largest rectangle.

    inputs: as `Form.split` reads them; embedded: (tokens, width); normed: what comes out of the
    last norm, (tokens, width).
    """

    def __init__(
        self, weights: Weights, pool: Pool[DeviceStore], slots: DeviceSlots, most: int
    ) -> None:
        """most: tokens of a rectangle."""
        self.weights, self.slots, self.store = weights, slots, pool.store
        self.tables = DeviceTables(pool.tables, pool.store.spare, weights.device)
        largest = 4 * most + max(filled(len(pool.tables)), READING)
        self.inputs = torch.zeros(largest, dtype=torch.long, device=weights.device)
        like, sizes = weights.embeddings, of_token(weights.shape)
        self._buffers = {name: like.new_zeros(most, size) for name, size in sizes.items()}
        self._buffers["stream"] = self._buffers["stream"].float()
        self._buffers["embedded"] = torch.zeros_like(self._buffers["made"])
        self.embedded, self.normed = self._buffers["embedded"], self._buffers["normed"]

    def __call__(self, form: Form) -> None:
        told, weights = form.split(self.inputs), self.weights
        at = Places(told.positions, told.where, told.rows, self.tables.held)
        held = {name: buffer[: form.count] for name, buffer in self._buffers.items()}
        held["stream"].zero_()
        held["made"].copy_(held["embedded"])  # which stay, so that a pass may be run again
        for number, layer in enumerate(weights.layers):
            self._norm(held, layer.norms[0])
            self._multiply(form, number, "qkv", held)
            store, turns = self.store.layer(number), (weights.cos, weights.sin)
            place(held["qkv"], store, layer.head_norms, turns, at, weights.shape)
            attend(held["qkv"], store, at, held["attended"], weights.shape)
            self._multiply(form, number, "out", held)
            self._norm(held, layer.norms[1])
            self._multiply(form, number, "gate_up", held)
            gate(held["gate_up"], held["gated"])
            self._multiply(form, number, "down", held)
        self._norm(held, weights.last_norm)

    def _norm(self, held: Mapping[str, torch.Tensor], weight: torch.Tensor) -> None:
        told = (held["stream"], held["made"], weight, held["normed"])
        add_and_norm(*told, self.weights.shape.eps)

    def _multiply(
        self, form: Form, number: int, site: str, held: Mapping[str, torch.Tensor]
    ) -> None:
        """With the delta of each row."""
        reads, writes = FLOW[site]
        product = self.weights.layers[number].products[site]
        product.into(held[reads], held[writes])
        if form.rank:
            lines = self.slots.lines(form, number, site)
            add_deltas(held[reads], held[writes], lines, product.ends)
