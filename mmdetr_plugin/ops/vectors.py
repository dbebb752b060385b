"""Rows of numbers as vectors in compiled loops (numba, the extra ``cpu``).

A row is loaded as one vector, in as many registers as that takes; the compiler gets its length from a
tuple ``lanes``, of which only the length matters.
"""

# ruff: noqa: ANN001, ANN002, ANN201, ANN202, ANN204 - numba infers the types of what it compiles
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc"

from __future__ import annotations

import math
import operator

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

FAST = ('contract', 'reassoc', 'nsz')  # sums may be reordered; infinity and NaN are respected


def compiled(function):
    """Compile ``function`` to run without Python's global lock; cache it on disk if possible."""
    try:
        return njit(nogil=True, fastmath=set(FAST), cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache is writable
        return njit(nogil=True, fastmath=set(FAST))(function)


class Row(types.Type):
    """A vector of ``count`` numbers."""

    def __init__(self, dtype, count):
        self.dtype, self.count = dtype, count
        super().__init__(f'Row({dtype}, {count})')


@register_model(Row)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        element = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.count))


def _place_of(context, builder, array_type, array, index, row):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), context.get_value_type(row).as_pointer())


def _copies(builder, number, kind):
    first = builder.insert_element(
        ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


@intrinsic
def load(typing, array, index, lanes):
    """Read the row that begins at ``array[index]``."""
    row = Row(array.dtype, len(lanes))

    def generate(context, builder, signature, args):
        out = builder.load(_place_of(context, builder, array, *args[:2], row))
        out.align = array.dtype.bitwidth // 8
        return out

    return row(array, types.intp, lanes), generate


@intrinsic
def store(typing, array, index, row):
    """Write ``row`` to the place that begins at ``array[index]``."""

    def generate(context, builder, signature, args):
        out = builder.store(args[2], _place_of(context, builder, array, *args[:2], row))
        out.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, row), generate


@intrinsic
def add_scaled(typing, total, row, factor):
    """``total + factor * row``."""

    def generate(context, builder, signature, args):
        factors = _copies(builder, args[2], args[1].type)
        return builder.fadd(args[0], builder.fmul(args[1], factors, flags=FAST), flags=FAST)

    return total(total, row, row.dtype), generate


@intrinsic
def dot(typing, a, b):
    """The scalar product of two rows."""

    def generate(context, builder, signature, args):
        element, kind = context.get_value_type(a.dtype), args[0].type
        name = f'llvm.vector.reduce.fadd.v{a.count}f{a.dtype.bitwidth}'
        signature = ir.FunctionType(element, [element, kind])
        total = cgutils.get_or_insert_function(builder.module, signature, name)
        product = builder.fmul(*args, flags=FAST)
        return builder.call(total, [ir.Constant(element, 0.0), product], fastmath=FAST)

    return a.dtype(a, a), generate


@intrinsic
def get(typing, array, index):
    """``array[index]`` of a flat array, without numba's test for a negative index."""

    def generate(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), generate


@intrinsic
def put(typing, array, index, number):
    """``array[index] = number``, as :func:`get`."""

    def generate(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        builder.store(args[2], builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


# ---- arithmetic, lane by lane --------------------------------------------------------------------


def _arithmetic(name):
    """A function of two rows, by the instruction ``name``; a number counts as a row of copies of it."""

    @intrinsic
    def compute(typing, a, b):
        row = a if isinstance(a, Row) else b

        def generate(context, builder, signature, args):
            kind = context.get_value_type(row)
            a, b = (x if x.type == kind else _copies(builder, x, kind) for x in args)
            return getattr(builder, name)(a, b, flags=FAST)

        return row(a, b), generate

    return compute


def _register(function, name):
    compute = _arithmetic(name)

    @overload(function)
    def choose(a, b):
        if Row not in (type(a), type(b)):
            return None
        other = b if isinstance(a, Row) else a
        row = a if isinstance(a, Row) else b
        if other not in (row, row.dtype):
            return None
        return lambda a, b: compute(a, b)


for _function, _name in (
    (operator.add, 'fadd'),
    (operator.sub, 'fsub'),
    (operator.mul, 'fmul'),
    (operator.truediv, 'fdiv'),
):
    _register(_function, _name)


@intrinsic
def where_positive(typing, x, row):
    """``row`` where ``x`` is above 0 (or not a number), else 0."""

    def generate(context, builder, signature, args):
        zeros = ir.Constant(args[0].type, [0.0] * x.count)
        return builder.select(builder.fcmp_unordered('>', args[0], zeros), args[1], zeros)

    return row(x, row), generate


@intrinsic
def where_equal(typing, x, number, row):
    """``row`` where ``x`` equals ``number``, else 0."""

    def generate(context, builder, signature, args):
        equal = builder.fcmp_ordered('==', args[0], _copies(builder, args[1], args[0].type))
        return builder.select(equal, args[2], ir.Constant(args[2].type, [0.0] * row.count))

    return row(x, x.dtype, row), generate


@intrinsic
def where_greater(typing, x, y, row, other):
    """``row`` where ``x`` is greater than ``y`` (or either not a number), else ``other``."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_unordered('>', *args[:2]), *args[2:])

    return row(x, x, row, row), generate


@intrinsic
def exponential(typing, row):
    """``exp(row)`` within rounding, for numbers between -87 and 87; others are clamped to these.

    exp(x) = 2^k exp(r) with an integer k and abs(r) <= ln(2) / 2: Taylor's polynomial of exp(r) up to
    r^7 is exact to 1e-8, and 2^k is written into the exponent's bits. 32 bits only.
    """
    if row.dtype != types.float32:
        raise TypeError('exponential computes in 32 bits')

    def generate(context, builder, signature, args):
        kind = args[0].type
        whole = ir.VectorType(ir.IntType(32), kind.count)

        def number(value):
            return ir.Constant(kind, [value] * kind.count)

        def call(name, *operands):
            signature = ir.FunctionType(kind, [kind] * len(operands))
            name = f'llvm.{name}.v{kind.count}f32'
            return builder.call(
                cgutils.get_or_insert_function(builder.module, signature, name), operands
            )

        x = call('maxnum', call('minnum', args[0], number(87.0)), number(-87.0))
        k = call('rint', builder.fmul(x, number(1 / math.log(2))))
        # ln(2) in two parts: k times the first has no rounding error.
        high = 355 / 512
        r = builder.fsub(x, builder.fmul(k, number(high)))
        r = builder.fsub(r, builder.fmul(k, number(math.log(2) - high)))
        total = number(1 / math.factorial(7))
        for power in range(6, -1, -1):
            total = builder.fmul(total, r, flags=('contract',))
            total = builder.fadd(total, number(1 / math.factorial(power)), flags=('contract',))
        bits = builder.add(builder.fptosi(k, whole), ir.Constant(whole, [127] * kind.count))
        scale = builder.bitcast(builder.shl(bits, ir.Constant(whole, [23] * kind.count)), kind)
        return builder.fmul(total, scale)

    return row(row), generate
