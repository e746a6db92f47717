"""The forward pass over a rectangle of rows and tokens, in torch's operations on any device.

Whatever it reads and writes lies at addresses that stay, and nothing in it depends on a number that
the host would have to wait for: so a GPU's graph can be captured of it.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from components.inference.attention_kernel import BLOCK
from components.inference.blocks import Pool
from components.inference.device_slots import DeviceSlots
from components.inference.device_store import DeviceStore
from components.inference.forms import FEWEST_BLOCKS, READING, Form, filled
from components.inference.weights import Layer, Weights


class Forward:
    """Weights, keys and values, deltas, and buffers for the largest rectangle.

    inputs: as `Form.split` reads them; made: embeddings, (tokens, width); normed: what comes out of
    the last norm, (tokens, width).
    """

    def __init__(
        self, weights: Weights, pool: Pool[DeviceStore], slots: DeviceSlots, most: int
    ) -> None:
        """most: tokens of a rectangle."""
        self.weights, self.slots, self.store = weights, slots, pool.store
        rows, of_row = pool.tables.shape
        blocks = filled(of_row, FEWEST_BLOCKS)
        device, like = weights.device, weights.embeddings
        largest = 4 * most + max(filled(rows), READING) * blocks
        self.inputs = torch.zeros(largest, dtype=torch.long, device=device)
        self.made = like.new_zeros(most, weights.shape.width)
        self.normed = like.new_zeros(most, weights.shape.width)
        self._places = torch.arange(blocks * BLOCK, device=device)
        self._cos = torch.cat([weights.cos, weights.cos], 1)[:, None]  # (context, 1, size)
        self._sin = torch.cat([-weights.sin, weights.sin], 1)[:, None]
        self._head_norms = [self._spread(layer) for layer in weights.layers]

    def _spread(self, layer: Layer) -> torch.Tensor | None:
        """The norm of each head of queries and keys, (heads, size)."""
        if layer.head_norms is None:
            return None
        shape = self.weights.shape
        counts = torch.tensor([shape.heads, shape.key_heads], device=self.weights.device)
        return layer.head_norms.repeat_interleave(counts, 0)

    def __call__(self, form: Form) -> None:
        with self._exact():
            self._all(form)

    def _exact(self) -> AbstractContextManager[None]:
        """In float32 attention is plain products; others need plans for each size (cuDNN)."""
        if self.made.dtype == torch.float32:
            return sdpa_kernel(SDPBackend.MATH)
        if self.made.device.type == "cuda":
            return sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
        return nullcontext()

    def _all(self, form: Form) -> None:
        told = form.split(self.inputs)
        seen = self._seen(form, told.positions)
        turns = [table[told.positions.flatten()] for table in (self._cos, self._sin)]
        stream = self.made[: form.count].to(torch.float32, copy=True)
        for number, layer in enumerate(self.weights.layers):
            qkv = self._multiply(form, number, "qkv", self._norm(stream, layer.norms[0]))
            self._turn(qkv, number, turns)
            attended = self._attend(form, number, qkv, told.where, told.tables, seen)
            stream += self._multiply(form, number, "out", attended)
            both = self._multiply(form, number, "gate_up", self._norm(stream, layer.norms[1]))
            gate, up = both.chunk(2, 1)
            stream += self._multiply(form, number, "down", functional.silu(gate) * up)
        self.normed[: form.count] = self._norm(stream, self.weights.last_norm)

    def _norm(self, stream: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        shape = self.weights.shape
        normed = functional.rms_norm(stream, (shape.width,), weight, shape.eps)
        return normed.to(self.made.dtype)

    def _multiply(self, form: Form, number: int, site: str, x: torch.Tensor) -> torch.Tensor:
        """x (tokens, inputs) to (tokens, outputs), with the delta of each row."""
        product = self.weights.layers[number].products[site]
        y = product(x)
        if not form.rank and not form.scaled:
            return y
        of_rows = self.slots.matrices(form, number, site)
        y = y.view(form.rows, form.tokens, -1)
        if form.rank:
            low = torch.bmm(x.view(form.rows, form.tokens, -1), of_rows.a)
            y.baddbmm_(low, of_rows.b)
        if form.scaled:
            y *= of_rows.scale[:, None]
        return y.view(form.count, -1)

    def _turn(self, qkv: torch.Tensor, number: int, turns: list[torch.Tensor]) -> None:
        """Norm (Qwen3) and rotate queries and keys in place. See `attention_kernel._rotate`."""
        shape, norms = self.weights.shape, self._head_norms[number]
        heads = shape.heads + shape.key_heads
        both = qkv.view(len(qkv), -1, shape.size)[:, :heads]
        x = both.float()
        if norms is not None:
            x = functional.rms_norm(x, (shape.size,), None, shape.eps) * norms
        cos, sin = turns
        both.copy_(torch.addcmul(x * cos, x.roll(shape.size // 2, -1), sin))

    def _seen(self, form: Form, positions: torch.Tensor) -> torch.Tensor:
        """0 where a token may look and -inf elsewhere, (rows, 1, queries of a key's head, places).

        The heads that share keys stand behind each other, as more tokens would.
        """
        places = self._places[: form.blocks * BLOCK]
        ahead = places > positions[:, :, None]
        seen = self.made.new_zeros(ahead.shape).masked_fill_(ahead, -torch.inf)
        group = self.weights.shape.heads // self.weights.shape.key_heads
        return seen.repeat(1, group, 1)[:, None]

    def _attend(
        self,
        form: Form,
        number: int,
        qkv: torch.Tensor,
        where: torch.Tensor,
        tables: torch.Tensor,
        seen: torch.Tensor,
    ) -> torch.Tensor:
        """Put keys and values into their places, then softmax(q K^T / sqrt(size)) V of each row.

        qkv: (tokens, numbers of all heads); returns (tokens, heads * size).
        """
        shape, store = self.weights.shape, self.store.layer(number)
        kv, size, group = shape.key_heads, shape.size, shape.heads // shape.key_heads
        by_head = qkv.view(form.count, -1, size)
        store.view(-1, 2 * kv, size).index_copy_(0, where, by_head[:, shape.heads :])
        behind = store.index_select(0, tables.flatten()).view(form.rows, -1, 2 * kv, size)
        keys, values = behind.transpose(1, 2).split(kv, 1)  # (rows, kv, places, size)
        queries = by_head[:, : shape.heads].view(form.rows, form.tokens, kv, group, size)
        queries = queries.permute(0, 2, 3, 1, 4).reshape(form.rows, kv, -1, size)
        found = functional.scaled_dot_product_attention(queries, keys, values, seen)
        found = found.view(form.rows, kv, group, form.tokens, size)
        return found.permute(0, 3, 1, 2, 4).reshape(form.count, -1)
