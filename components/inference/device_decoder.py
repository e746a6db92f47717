"""The decoder on a device: `Decoder`'s interface, with a GPU's kernels and graphs."""

from collections.abc import Callable

import numpy as np
import torch

from components.inference.blocks import Pool
from components.inference.decoder import Step
from components.inference.device_forward import Forward
from components.inference.device_slots import DeviceSlots
from components.inference.device_store import DeviceStore
from components.inference.forms import (
    FEWEST_TOKENS,
    READING,
    Form,
    Part,
    filled,
    form_of,
    forms,
    parts,
    write,
)
from components.inference.graphs import Graphs
from components.inference.weights import Weights


class DeviceDecoder:
    """Weights on a device, bound to a pool and deltas there."""

    def __init__(
        self, weights: Weights, pool: Pool[DeviceStore], slots: DeviceSlots, most: int
    ) -> None:
        """most: tokens of a step."""
        self.weights, self.pool, self.slots = weights, pool, slots
        self._is_gpu = weights.device.type == "cuda"
        self._most = most = filled(most, READING * FEWEST_TOKENS)
        self._forward = Forward(weights, pool, slots, most)
        self._run: Callable[[Form], None] = self._forward
        if self._is_gpu:
            self._run = Graphs(self._forward)
            for form in forms(len(pool.tables), most):  # before a request would wait for it
                self._run(form)
        self._told: list[torch.Tensor] = []  # inputs on the host, for each rectangle of a step
        self._features = torch.zeros_like(self._forward.normed)

    def hidden(self, step: Step) -> torch.Tensor:
        """See `Decoder.hidden`; on the device."""
        if self._is_gpu:
            torch.cuda.current_stream().synchronize()  # inputs of the last step have been read
        for turn, part in enumerate(parts(step.rows, self._most)):
            form = self._tell(step, part, turn)
            self._embed(step, part, form)
            self._run(form)
            real = form.split(self._forward.inputs).real[: sum(part.counts)]
            made = self._features[part.places]
            torch.index_select(self._forward.normed, 0, real, out=made)
        wanted = step.wanted
        if np.array_equal(wanted, np.arange(len(step.tokens))):  # every row writes
            return self._features[: len(wanted)]
        return self._features[torch.from_numpy(wanted).to(self.weights.device)]

    def _tell(self, step: Step, part: Part, turn: int) -> Form:
        """Bring what a rectangle reads to the device."""
        slots = step.slots[part.places][part.starts]
        form, tables = form_of(part, self.slots.rank(slots)), self._forward.tables
        if turn == len(self._told):
            like = self._forward.inputs
            self._told.append(torch.zeros(len(like), dtype=like.dtype, pin_memory=self._is_gpu))
        told = self._told[turn][: form.size]
        tables.bring(step.rows[part.places][part.starts])
        write(told.numpy(), form, part, step, tables)
        self._forward.inputs[: form.size].copy_(told, non_blocking=True)
        self.slots.seat(form, slots)
        return form

    def _embed(self, step: Step, part: Part, form: Form) -> None:
        made = self._forward.embedded[: form.count]
        tokens = form.split(self._forward.inputs).tokens
        torch.index_select(self.weights.embeddings, 0, tokens, out=made)
        for place, vectors in step.vectors:
            if part.places.start <= place < part.places.stop:
                first = int(part.real(form.tokens)[place - part.first])
                made[first : first + len(vectors)] = torch.from_numpy(vectors).to(made)

    def say(self, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """See `Decoder.say`."""
        made = hidden.to(self.weights.embeddings) @ self.weights.head.weight
        out.copy_(made.float())

    def paper(self, count: int) -> torch.Tensor:
        """See `Decoder.paper`; a GPU writes to it without another copy."""
        return torch.zeros(count, self.weights.shape.vocabulary, pin_memory=self._is_gpu)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `Decoder.logits`; on the host, in float32."""
        said = torch.zeros(len(hidden), self.weights.shape.vocabulary)
        self.say(hidden, said)
        return said
