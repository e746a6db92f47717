"""Machine instructions for kernels: what LLVM has and numba's Python does not reach.

    out (rows, lanes)  =  [out +]  x (rows, n) @ panel (n, lanes)

LLVM vectorises a loop's innermost dimension only, so that a dot product ends in a sum across the
register for each number, and every row loads the panel anew. Here a register holds one line of the
panel, each row has its own accumulator, and no sum crosses lanes.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from components.inference.kernels import LN_2, LOG2_E, LOWEST, SERIES

LANES = 16  # of float32 in the widest vector register; LLVM splits it where registers are narrower
LINE = 64  # bytes of a cache line
WORD, FLOAT = ir.IntType(64), ir.FloatType()
FUSED = ("contract",)  # a product and a sum may be one instruction


class _Rows:
    """A two-dimensional array with dense rows, as instructions reach into it. kind: its type; of
    16-bit numbers, which are the upper halves of floats (bfloat16), or of floats.
    """

    def __init__(self, builder: Any, array: Any, kind: Any) -> None:
        self.builder = builder
        self.base = builder.ptrtoint(array.data, WORD)
        self.step = cgutils.unpack_tuple(builder, array.strides)[0]
        self.shape = cgutils.unpack_tuple(builder, array.shape)
        self.halved = kind.dtype == types.uint16
        self.width = 2 if self.halved else 4  # bytes of a number

    def address(self, row: Any, column: Any, kind: ir.Type) -> Any:
        place = self.builder.add(self.base, self.builder.mul(self.step, row))
        place = self.builder.add(place, self.builder.mul(column, column.type(self.width)))
        return self.builder.inttoptr(place, kind.as_pointer())

    def load(self, row: Any, column: Any, kind: ir.Type) -> Any:
        if not self.halved:
            return self.builder.load(self.address(row, column, kind), align=4)
        halves, whole = (ir.VectorType(ir.IntType(bits), kind.count) for bits in (16, 32))
        found = self.builder.load(self.address(row, column, halves), align=2)
        upper = self.builder.shl(self.builder.zext(found, whole), _every(16, whole))
        return self.builder.bitcast(upper, kind)


@dataclass(frozen=True)
class _Form:
    """What distinguishes products, see `product`."""

    rows: int
    lanes: int
    chains: int
    ahead: int
    turned: bool


class _Product:
    """The instructions of a product, in the order in which `generate` has them written.

    given: x, panels, out, adds, see `product`; kinds: their types.
    """

    def __init__(self, builder: Any, context: Any, kinds: Any, given: Any, form: _Form) -> None:
        def rows(kind: Any, value: Any) -> _Rows:
            return _Rows(builder, context.make_array(kind)(context, builder, value), kind)

        self.builder, self.form, self.adds = builder, form, given[3]
        self.x, self.out = rows(kinds[0], given[0]), rows(kinds[2], given[2])
        of_panels = cgutils.unpack_tuple(builder, given[1])
        self.panels = [rows(kind, value) for kind, value in zip(kinds[1], of_panels, strict=True)]
        self.vector = ir.VectorType(FLOAT, form.lanes)
        self.sums = {  # as many registers of each row and panel as there are chains
            (row, panel): [cgutils.alloca_once(builder, self.vector) for _ in range(form.chains)]
            for row in range(form.rows)
            for panel in range(len(self.panels))
        }

    def generate(self) -> None:
        self._begin()
        self._loop()
        self._end()

    def _of_out(self, row: int, panel: int) -> Any:
        return self.out.address(WORD(row), WORD(panel * self.form.lanes), self.vector)

    def _begin(self) -> None:
        """Sums from nothing, or from what `out` holds."""
        builder = self.builder
        for chain in (chain for chains in self.sums.values() for chain in chains):
            builder.store(ir.Constant(self.vector, [0.0] * self.form.lanes), chain)
        with builder.if_then(cgutils.is_not_null(builder, self.adds)):
            for place, chains in self.sums.items():
                builder.store(builder.load(self._of_out(*place), align=4), chains[0])

    def _loop(self) -> None:
        """Through all lines, and then through those that do not fill the chains."""
        builder, chains = self.builder, self.form.chains
        lines = self.x.shape[0 if self.form.turned else 1]
        whole = builder.sdiv(lines, WORD(chains))
        with cgutils.for_range(builder, whole) as loop:
            first = builder.mul(loop.index, WORD(chains))
            if self.form.ahead:
                self._prefetch(first)
            for chain in range(chains):
                self._accumulate(builder.add(first, WORD(chain)), chain)
        if chains == 1:
            return
        first = builder.mul(whole, WORD(chains))
        with cgutils.for_range(builder, builder.sub(lines, first)) as loop:
            self._accumulate(builder.add(first, loop.index), 0)

    def _accumulate(self, line: Any, chain: int) -> None:
        builder, form = self.builder, self.form
        of_panels = [panel.load(line, WORD(0), self.vector) for panel in self.panels]
        for row in range(form.rows):
            place = (line, WORD(row)) if form.turned else (WORD(row), line)
            every = _spread(builder, self.x.load(*place, FLOAT), self.vector)
            for panel, of_panel in enumerate(of_panels):
                held = self.sums[row, panel][chain]
                builder.store(_fused(builder, every, of_panel, builder.load(held)), held)

    def _prefetch(self, line: Any) -> None:
        """The cache lines that `chains` lines of each panel fill, so many bytes further."""
        builder, form = self.builder, self.form
        for panel in self.panels:
            place = builder.ptrtoint(panel.address(line, WORD(0), FLOAT), WORD)
            filled = form.chains * form.lanes * panel.width
            for further in range(form.ahead, form.ahead + filled, LINE):
                _prefetch(builder, builder.add(place, WORD(further)))

    def _end(self) -> None:
        builder = self.builder
        for place, chains in self.sums.items():
            total = builder.load(chains[0])
            for chain in chains[1:]:
                total = builder.fadd(total, builder.load(chain))
            if self.panels[0].halved:
                total = _rounded(builder, total)
            builder.store(total, self._of_out(*place), align=4)


def product(rows: int, lanes: int, chains: int, ahead: int = 0, turned: bool = False) -> Any:
    """The product for so many rows, as a function for kernels.

    chains: accumulators of a row, each of every n-th line of the panel. ahead: so many bytes behind
    a line are loaded into the cache; 0: none are. turned: x is (n, rows).
    """
    form = _Form(rows, lanes, chains, ahead, turned)

    @intrinsic
    def multiply(_context: Any, x: Any, panels: Any, out: Any, adds: Any) -> Any:
        """x, out: two-dimensional arrays with dense rows, as each of the panels, whose results lie
        side by side; adds: to what `out` holds.
        """

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            _Product(builder, context, signature.args, given, form).generate()
            return context.get_dummy_value()

        return types.void(x, panels, out, adds), generate

    return multiply


def _spread(builder: Any, number: Any, vector: ir.VectorType) -> Any:
    """A register that holds `number` in each lane."""
    word = ir.IntType(32)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, word(0))
    places = ir.Constant(ir.VectorType(word, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), places)


def _every(number: int, whole: ir.VectorType) -> Any:
    return ir.Constant(whole, [number] * whole.count)


def _rounded(builder: Any, x: Any) -> Any:
    """x rounded to bfloat16, to the nearest and of two to the even one."""
    whole = ir.VectorType(ir.IntType(32), x.type.count)
    bits = builder.bitcast(x, whole)
    odd = builder.and_(builder.lshr(bits, _every(16, whole)), _every(1, whole))
    bits = builder.add(bits, builder.add(odd, _every(0x7FFF, whole)))
    return builder.bitcast(builder.and_(bits, _every(0xFFFF0000, whole)), x.type)


def _prefetch(builder: Any, address: Any) -> None:
    """Have the cache line at an address loaded; one where nothing lies does no harm."""
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, close, data = number(0), number(3), number(1)
    builder.call(function, (builder.inttoptr(address, pointer), read, close, data))


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
