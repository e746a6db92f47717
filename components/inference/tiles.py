"""Matrix products that stay in registers: a few rows times a panel as wide as a vector register.

    out (rows, lanes)  =  [out +]  x (rows, n) @ panel (n, lanes)

LLVM vectorises a loop's innermost dimension only, so that a dot product ends in a sum across the
register for each number, and every row loads the panel anew. Here a register holds one line of the
panel, each row has its own accumulator, and no sum crosses lanes.

A single row would wait for its last sum at each line: it has four accumulators and adds them up.
"""

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # of float32 in the widest vector register; LLVM splits it where registers are narrower
NARROW = 8
ROWS = 8  # accumulators that hide the latency of a multiplication


def _product(rows: int, lanes: int, chains: int) -> Any:
    """The product for so many rows, as a function for kernels.

    chains: accumulators of a row, each of every n-th line of the panel.
    """
    vector = ir.VectorType(ir.FloatType(), lanes)

    @intrinsic
    def multiply(_context: Any, x: Any, panel: Any, out: Any, adds: Any) -> Any:
        """x, panel, out: two-dimensional arrays with dense rows; adds: to what `out` holds."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            held = [
                context.make_array(kind)(context, builder, value)
                for kind, value in zip(signature.args, arguments[:3], strict=False)
            ]
            bases = [builder.ptrtoint(array.data, ir.IntType(64)) for array in held]
            steps = [cgutils.unpack_tuple(builder, array.strides)[0] for array in held]

            def load(which: int, row: Any, column: Any, kind: ir.Type) -> Any:
                return builder.load(address(which, row, column, kind), align=4)

            def address(which: int, row: Any, column: Any, kind: ir.Type) -> Any:
                place = builder.add(bases[which], builder.mul(steps[which], row))
                place = builder.add(place, builder.mul(column, column.type(4)))
                return builder.inttoptr(place, kind.as_pointer())

            word = ir.IntType(64)
            nought = word(0)
            sums = [
                [cgutils.alloca_once(builder, vector) for _ in range(chains)] for _ in range(rows)
            ]
            for of_row in sums:
                for place in of_row:
                    builder.store(ir.Constant(vector, [0.0] * lanes), place)
            with builder.if_then(cgutils.is_not_null(builder, arguments[3])):
                for row, of_row in enumerate(sums):
                    builder.store(load(2, word(row), nought, vector), of_row[0])

            def accumulate(line: Any, chain: int) -> None:
                of_panel = load(1, line, nought, vector)
                for row, of_row in enumerate(sums):
                    one = load(0, word(row), line, ir.FloatType())
                    every = _spread(builder, one, vector)
                    product = builder.fmul(every, of_panel, flags=("contract",))
                    total = builder.fadd(builder.load(of_row[chain]), product, flags=("contract",))
                    builder.store(total, of_row[chain])

            lines = cgutils.unpack_tuple(builder, held[0].shape)[1]
            whole = builder.sdiv(lines, word(chains))
            with cgutils.for_range(builder, whole) as loop:
                first = builder.mul(loop.index, word(chains))
                for chain in range(chains):
                    accumulate(builder.add(first, word(chain)), chain)
            if chains > 1:
                first = builder.mul(whole, word(chains))
                with cgutils.for_range(builder, builder.sub(lines, first)) as loop:
                    accumulate(builder.add(first, loop.index), 0)
            for row, of_row in enumerate(sums):
                total = builder.load(of_row[0])
                for place in of_row[1:]:
                    total = builder.fadd(total, builder.load(place))
                builder.store(total, address(2, word(row), nought, vector), align=4)
            return context.get_dummy_value()

        return types.void(x, panel, out, adds), generate

    return multiply


def _spread(builder: Any, number: Any, vector: ir.VectorType) -> Any:
    """A register that holds `number` in each lane."""
    word = ir.IntType(32)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, word(0))
    places = ir.Constant(ir.VectorType(word, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), places)


_many, _one = _product(ROWS, LANES, 1), _product(1, LANES, 4)
_many_narrow, _one_narrow = _product(ROWS, NARROW, 1), _product(1, NARROW, 4)


@njit(inline="always")
def multiply(x, panel, out, many, adds):
    """out (ROWS or 1, LANES) of x (ROWS or 1, n) and panel (n, LANES). many: ROWS rows."""
    if many:
        _many(x, panel, out, adds)
    else:
        _one(x, panel, out, adds)


@njit(inline="always")
def multiply_narrow(x, panel, out, many, adds):
    """As `multiply`, with NARROW for LANES."""
    if many:
        _many_narrow(x, panel, out, adds)
    else:
        _one_narrow(x, panel, out, adds)
