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

from components.inference.kernels import LN_2, LOG2_E, LOWEST, SERIES

LANES = 16  # of float32 in the widest vector register; LLVM splits it where registers are narrower
NARROW = 8
WORD, FLOAT = ir.IntType(64), ir.FloatType()
FUSED = ("contract",)  # a product and a sum may be one instruction
ROWS = 8  # accumulators that hide the latency of a multiplication


class _Rows:
    """A two-dimensional array with dense rows, as instructions reach into it."""

    def __init__(self, builder: Any, array: Any) -> None:
        self.builder = builder
        self.base = builder.ptrtoint(array.data, WORD)
        self.step = cgutils.unpack_tuple(builder, array.strides)[0]

    def address(self, row: Any, column: Any, kind: ir.Type) -> Any:
        place = self.builder.add(self.base, self.builder.mul(self.step, row))
        place = self.builder.add(place, self.builder.mul(column, column.type(4)))
        return self.builder.inttoptr(place, kind.as_pointer())

    def load(self, row: Any, column: Any, kind: ir.Type) -> Any:
        return self.builder.load(self.address(row, column, kind), align=4)


def _product(rows: int, lanes: int, chains: int) -> Any:
    """The product for so many rows, as a function for kernels.

    chains: accumulators of a row, each of every n-th line of the panel.
    """
    vector = ir.VectorType(FLOAT, lanes)

    @intrinsic
    def multiply(_context: Any, x: Any, panel: Any, out: Any, adds: Any) -> Any:
        """x, panel, out: two-dimensional arrays with dense rows; adds: to what `out` holds."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            held = [
                context.make_array(kind)(context, builder, value)
                for kind, value in zip(signature.args, arguments[:3], strict=False)
            ]
            rows_of, panel_of, out_of = (_Rows(builder, array) for array in held)
            nought = WORD(0)
            sums = [
                [cgutils.alloca_once(builder, vector) for _ in range(chains)] for _ in range(rows)
            ]
            for place in (place for of_row in sums for place in of_row):
                builder.store(ir.Constant(vector, [0.0] * lanes), place)
            with builder.if_then(cgutils.is_not_null(builder, arguments[3])):
                for row, of_row in enumerate(sums):
                    builder.store(out_of.load(WORD(row), nought, vector), of_row[0])

            def accumulate(line: Any, chain: int) -> None:
                of_panel = panel_of.load(line, nought, vector)
                for row, of_row in enumerate(sums):
                    one = rows_of.load(WORD(row), line, FLOAT)
                    every = _spread(builder, one, vector)
                    total = _fused(builder, every, of_panel, builder.load(of_row[chain]))
                    builder.store(total, of_row[chain])

            lines = cgutils.unpack_tuple(builder, held[0].shape)[1]
            whole = builder.sdiv(lines, WORD(chains))
            with cgutils.for_range(builder, whole) as loop:
                first = builder.mul(loop.index, WORD(chains))
                for chain in range(chains):
                    accumulate(builder.add(first, WORD(chain)), chain)
            if chains > 1:
                first = builder.mul(whole, WORD(chains))
                with cgutils.for_range(builder, builder.sub(lines, first)) as loop:
                    accumulate(builder.add(first, loop.index), 0)
            for row, of_row in enumerate(sums):
                total = builder.load(of_row[0])
                for place in of_row[1:]:
                    total = builder.fadd(total, builder.load(place))
                builder.store(total, out_of.address(WORD(row), nought, vector), align=4)
            return context.get_dummy_value()

        return types.void(x, panel, out, adds), generate

    return multiply


def _spread(builder: Any, number: Any, vector: ir.VectorType) -> Any:
    """A register that holds `number` in each lane."""
    word = ir.IntType(32)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, word(0))
    places = ir.Constant(ir.VectorType(word, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), places)


def _fused(builder: Any, left: Any, right: Any, more: Any) -> Any:
    """left * right + more."""
    return builder.fadd(builder.fmul(left, right, flags=FUSED), more, flags=FUSED)


def _llvm(builder: Any, name: str, result: ir.Type, *given: Any) -> Any:
    """An instruction of LLVM's own over a register, the last of `given`."""
    kind = ir.FunctionType(result, [number.type for number in given])
    called = f"llvm.{name}.v{given[-1].type.count}f32"
    function = cgutils.get_or_insert_function(builder.module, kind, called)
    return builder.call(function, given, fastmath=("reassoc", "nnan"))


def _exp(builder: Any, x: Any) -> Any:
    """`kernels.exp` in each lane."""

    def every(number: float, kind: ir.Type = FLOAT) -> Any:
        return ir.Constant(ir.VectorType(kind, x.type.count), [number] * x.type.count)

    whole = ir.VectorType(ir.IntType(32), x.type.count)
    lowest = every(float(LOWEST))
    x = builder.select(builder.fcmp_ordered(">", x, lowest), x, lowest)
    n = _llvm(builder, "floor", x.type, _fused(builder, x, every(float(LOG2_E)), every(0.5)))
    r = _fused(builder, n, every(-float(LN_2)), x)
    p = every(float(SERIES[0]))
    for term in SERIES[1:]:
        p = _fused(builder, p, r, every(float(term)))
    p = _fused(builder, builder.fmul(p, r), r, builder.fadd(r, every(1.0)))
    exponent = builder.add(builder.fptosi(n, whole), every(127, ir.IntType(32)))
    bits = builder.shl(exponent, every(23, ir.IntType(32)))
    return builder.fmul(p, builder.bitcast(bits, x.type))


@intrinsic
def soften(_context: Any, row: Any, length: Any, scale: Any) -> Any:
    """e^(scale (x - the largest)) in place of each x of a dense row; their sum.

    length: a multiple of LANES.
    """
    vector = ir.VectorType(FLOAT, LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        length, scale = arguments[1], _spread(builder, arguments[2], vector)

        def place(index: Any) -> Any:
            return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

        largest, total = (cgutils.alloca_once(builder, vector) for _ in range(2))
        builder.store(builder.load(place(WORD(0)), align=4), largest)
        builder.store(ir.Constant(vector, [0.0] * LANES), total)
        step = WORD(LANES)
        with cgutils.for_range_slice(builder, WORD(0), length, step) as (index, _):
            held, found = builder.load(largest), builder.load(place(index), align=4)
            builder.store(
                builder.select(builder.fcmp_ordered(">", found, held), found, held), largest
            )
        most = _llvm(builder, "vector.reduce.fmax", FLOAT, builder.load(largest))
        most = _spread(builder, most, vector)
        with cgutils.for_range_slice(builder, WORD(0), length, step) as (index, _):
            above = builder.fsub(builder.load(place(index), align=4), most)
            weights = _exp(builder, builder.fmul(above, scale))
            builder.store(weights, place(index), align=4)
            builder.store(builder.fadd(builder.load(total), weights), total)
        return _llvm(builder, "vector.reduce.fadd", FLOAT, FLOAT(0.0), builder.load(total))

    return types.float32(row, types.int64, types.float32), generate


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
