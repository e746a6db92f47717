"""The matrices of a decoder, ready to multiply, in float32 or with weights rounded to bfloat16.

A processor multiplies with oneDNN, and weights are laid out for it once. On an AMD EPYC its float32
takes half the time of PyTorch's own (`python bench/precision.py`). Rounded weights take half the
memory and the processor's own products of bfloat16 (AMX or AVX-512). Each rounds what it reads and
gives to 8 bits of mantissa and sums in float32; norms, attention, deltas, keys and values stay in
float32. What that costs is measured by `bench/serving.py`.

On a GPU (see `device`) both are `Product`, of tensors that lie there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

FLOAT32, BFLOAT16 = "float32", "bfloat16"
DTYPES = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16}
FEW, SMALL = 2, 1 << 20  # rows, and numbers of a matrix; see `python bench/products.py`


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
class Packed:
    """As `Product`, by oneDNN. packed: (outputs, inputs), in its own order and in either precision.

    plain: the same as `Product` has it, for a few rows, where it is small: oneDNN takes about 10
    microseconds to begin, which a large matrix hides.
    """

    packed: torch.Tensor
    plain: torch.Tensor | None
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
        plain = 0 if self.plain is None else self.plain.nbytes
        return self.packed.numel() * self.packed.itemsize + plain

    def into(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """As `Product.into`."""
        if self.plain is not None and len(x) <= FEW:
            torch.mm(x, self.plain, out=out)
        else:
            multiplied = torch.ops.mkldnn._linear_pointwise
            read = x.to(self.packed.dtype)
            out.copy_(multiplied(read, self.packed, None, "none", [], ""))
        if self.bias is not None:
            out += self.bias


AnyProduct = Product | Packed


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
    if not torch.backends.mkldnn.is_available() and precision == FLOAT32:
        return Product(whole.t().contiguous(), bias, ends)
    if precision == FLOAT32:
        plain = whole.t().contiguous() if whole.numel() <= SMALL else None
        return Packed(torch.ops.mkldnn._reorder_linear_weight(whole), plain, bias, ends)
    if precision != BFLOAT16 or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise ValueError(
            f"precision {precision}: this machine's products are of float32 alone (bfloat16 needs "
            "AVX-512 and oneDNN); set 'precision: float32' in the catalogue's block 'serving'"
        )
    packed = torch.ops.mkldnn._reorder_linear_weight(whole.bfloat16())
    return Packed(packed, None, bias, ends)
