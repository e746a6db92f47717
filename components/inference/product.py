"""The matrices of a decoder, ready to multiply, in float32 or with weights rounded to bfloat16.

On a processor with AVX-512 float32 is multiplied by a kernel of our own (`product_kernel`), which
needs half the time of oneDNN for a step of few tokens, and no more for one of many
(`python bench/products.py`). Rounded weights have it for few tokens, and for many oneDNN's, which
are the processor's own of bfloat16 (AMX or AVX-512). All else there is oneDNN's alone. Rounded
products round what they read and give to 8 bits of mantissa and sum in float32; norms, attention,
deltas, keys and values stay in float32. What that costs is measured by `bench/serving.py`.

On a GPU (see `device`) both are `Product`, of tensors that lie there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from components.inference.product_kernel import multiply
from components.inference.registers import LANES
from components.inference.tiles import WIDEST, in_panels

FLOAT32, BFLOAT16 = "float32", "bfloat16"
DTYPES = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16}
MANY = 32  # tokens, from which on oneDNN's products of bfloat16 are the faster ones


@dataclass(frozen=True)
class Product:
    """x (tokens, inputs) @ weight (inputs, outputs) + bias.

    ends: where each of the checkpoint's matrices ends that lie side by side in `weight`.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    ends: tuple[int, ...]

    @property
    def inputs(self) -> int:
        return self.weight.shape[0]

    @property
    def bytes(self) -> int:
        return self.weight.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The product of x, (tokens, outputs)."""
        return x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def into(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """Write the product of x to `out` (tokens, outputs)."""
        if self.bias is None:
            torch.mm(x, self.weight, out=out)
        else:
            torch.addmm(self.bias, x, self.weight, out=out)


@dataclass(frozen=True)
class Panels:
    """As `Product`, by our own kernel. panels: (outputs / LANES, inputs, LANES), exact or rounded.

    Rounded ones read and give rounded numbers, as `Packed` ones do.
    """

    panels: torch.Tensor
    bias: torch.Tensor | None
    ends: tuple[int, ...]

    @classmethod
    def of(cls, matrix: torch.Tensor, bias: torch.Tensor | None, ends: tuple[int, ...]) -> "Panels":
        """matrix: (outputs, inputs), outputs a multiple of LANES, float32 or bfloat16."""
        lines = torch.from_numpy(in_panels(matrix.float().t().numpy(), LANES))
        held = torch.empty(lines.shape, dtype=matrix.dtype)  # torch's begin with a cache line
        return cls(held.copy_(lines), bias, ends)

    @property
    def weight(self) -> torch.Tensor:
        """(inputs, outputs); a copy."""
        return self.panels.transpose(0, 1).reshape(self.inputs, -1).float()

    @property
    def inputs(self) -> int:
        return self.panels.shape[1]

    @property
    def bytes(self) -> int:
        return self.panels.nbytes

    def into(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """As `Product.into`; both lie densely."""
        read = x if self.panels.dtype == torch.float32 else x.to(self.panels.dtype).float()
        multiply(read, self.panels, out)
        if self.bias is not None:
            out += self.bias


@dataclass(frozen=True)
class Packed:
    """As `Product`, by oneDNN. packed: (outputs, inputs), in its order and in either precision."""

    packed: torch.Tensor
    bias: torch.Tensor | None
    ends: tuple[int, ...]

    @property
    def weight(self) -> torch.Tensor:
        """(inputs, outputs) in float32, rounded where it was; a copy."""
        return self.packed.to_dense().float().t()

    @property
    def inputs(self) -> int:
        return self.packed.shape[1]

    @property
    def bytes(self) -> int:
        return self.packed.numel() * self.packed.itemsize

    def into(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """As `Product.into`."""
        multiplied = torch.ops.mkldnn._linear_pointwise
        out.copy_(multiplied(x.to(self.packed.dtype), self.packed, None, "none", [], ""))
        if self.bias is not None:
            out += self.bias


@dataclass(frozen=True)
class Both:
    """Rounded weights in two orders: `few` for steps of few tokens, `many` for others."""

    few: Panels
    many: Packed

    @property
    def weight(self) -> torch.Tensor:
        """As `Packed.weight`."""
        return self.few.weight

    @property
    def inputs(self) -> int:
        return self.few.inputs

    @property
    def ends(self) -> tuple[int, ...]:
        return self.few.ends

    @property
    def bytes(self) -> int:
        return self.few.bytes + self.many.bytes

    def into(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """As `Product.into`."""
        (self.few if len(x) < MANY else self.many).into(x, out)


AnyProduct = Product | Panels | Packed | Both


def product(
    matrices: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor | None],
    precision: str,
    device: torch.device | None,
) -> AnyProduct:
    """Matrices of a checkpoint, each (outputs, inputs), side by side; biases: those they have.

    device: see `Weights`.

    Raises:
        ValueError: this machine has no products of that precision.
    """
    bias: torch.Tensor | None = None
    if any(found is not None for found in biases):
        bias = torch.cat(
            [
                torch.zeros(len(matrix)) if found is None else found
                for matrix, found in zip(matrices, biases, strict=True)
            ]
        )
    ends = tuple(torch.tensor([len(matrix) for matrix in matrices]).cumsum(0).tolist())
    whole = torch.cat(list(matrices))
    if device is not None:
        dtype = DTYPES[precision]
        bias = None if bias is None else bias.to(device, dtype)
        return Product(whole.to(device, dtype).t(), bias, ends)
    if precision == FLOAT32:
        return _exact(whole, bias, ends)
    if precision != BFLOAT16 or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise ValueError(
            f"precision {precision}: this machine's products are of float32 alone (bfloat16 needs "
            "AVX-512 and oneDNN); set 'precision: float32' in the catalogue's block 'serving'"
        )
    whole = whole.bfloat16()
    packed = Packed(torch.ops.mkldnn._reorder_linear_weight(whole), bias, ends)
    if not WIDEST or len(whole) % LANES:
        return packed
    return Both(Panels.of(whole, bias, ends), packed)


def _exact(matrix: torch.Tensor, bias: torch.Tensor | None, ends: tuple[int, ...]) -> AnyProduct:
    """matrix: (outputs, inputs), in float32 on the processor."""
    if WIDEST and len(matrix) % LANES == 0:
        return Panels.of(matrix, bias, ends)
    if torch.backends.mkldnn.is_available():
        return Packed(torch.ops.mkldnn._reorder_linear_weight(matrix.float()), bias, ends)
    return Product(matrix.t().contiguous(), bias, ends)
