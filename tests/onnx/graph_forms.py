"""Further forms of the operators of random graphs: attributes left out, axes from behind, operands that are computed,
shapes that the graph computes, weights that two nodes share. See graphs.py.

`FORMS` are drawn beside `graph_operators.TABLE`, but have no graphs of their own.
"""

import numpy as np
from onnx import TensorProto, helper
from graph_operators import axes_of, need, operand, positive, signed, within
from graph_layers import spread

FORMS = {}


def form(function):
    FORMS["form." + function.__name__] = function
    return function


def axis_of(g, x):
    rank = len(g.shape(x))
    need(rank > 0)
    return signed(g, [g.int(0, rank - 1)], rank)[0]


def place(g, x, axis):
    """The axis, counted from the front."""
    return axis % len(g.shape(x))


# Weights and values that several nodes read.
@form
def again(g):
    """A node once more, with its weights and attributes, on another value of its shape."""
    data = lambda n: [i for i in n.input if i]
    fitting = [n for n in g.nodes if len(data(n)) > 1 and len(n.output) == 1 and n.op_type not in ("If", "Loop", "Scan")]
    fitting = [n for n in fitting if data(n)[0] in set(g.values())]
    need(fitting)
    node = g.one(fitting)
    shape = g.shape(node.input[0])
    others = [v for v in g.values() if g.shape(v) == shape and v != node.input[0]]
    need(others)
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    need(node.op_type not in ("Div", "Mod", "Pow", "Reciprocal", "Log", "Sqrt"))
    g.add(node.op_type, within(g, g.one(others), 1.5), *node.input[1:], **attributes)


@form
def residual(g):
    """Two branches from one value that meet."""
    x = g.any()
    left = g.add(g.one(["Tanh", "Relu", "Neg", "Sigmoid"]), x)[0]
    right = g.add("Mul", x, operand(g, x))[0] if g.chance() else x
    need(g.shape(left) == g.shape(right))
    y = g.add("Add", left, right)[0]
    if g.chance():
        g.add(g.one(["Sub", "Mul", "Max"]), y, g.one([left, right, y]))


@form
def squeeze_excite(g):
    x = g.of_rank(4, 16)
    c = g.shape(x)[1]
    s = g.add("GlobalAveragePool", x)[0]
    s = g.add("Relu", g.add("Conv", s, g.constant(g.normal(2, c, 1, 1)))[0])[0]
    s = g.add(g.one(["Sigmoid", "HardSigmoid"]), g.add("Conv", s, g.constant(g.normal(c, 2, 1, 1)))[0])[0]
    g.add("Mul", *([x, s] if g.chance() else [s, x]))


@form
def layer_norm_by_hand(g):
    """As exporters before opset 17 write it."""
    x = g.any(ranks=range(2, 5), least=8)
    axis = len(g.shape(x)) - 1
    need(g.shape(x)[axis] > 1)
    spread(g, x, axis)
    mean = lambda v: g.add("ReduceMean", v, axes=[-1]) if g.opset < 18 else g.add("ReduceMean", v, g.ints([-1]))
    d = g.add("Sub", x, mean(x)[0])[0]
    square = g.add("Pow", d, g.scalar(2.0))[0] if g.chance() else g.add("Mul", d, d)[0]
    root = g.add("Sqrt", g.add("Add", mean(square)[0], g.scalar(1e-5))[0])[0]
    y = g.add("Div", d, root)[0]
    if g.chance():
        g.add("Add", g.add("Mul", y, g.constant(1 + g.normal(g.shape(x)[axis])))[0], g.constant(g.normal(g.shape(x)[axis])))


@form
def gelu_by_hand(g):
    x = g.any()
    inner = g.add("Erf", g.add("Div", x, g.scalar(1.4142135))[0])[0]
    y = g.add("Mul", x, g.add("Add", inner, g.scalar(1.0))[0])[0]
    g.add("Mul", y, g.scalar(0.5))


@form
def attention_by_hand(g):
    x = g.of_rank(3, 16)
    _, length, width = g.shape(x)
    heads = g.one([h for h in (1, 2, 4) if width % h == 0])
    split = lambda w, perm: g.add("Transpose", g.add("Reshape", w, g.ints([0, -1, heads, width // heads]))[0], perm=perm)[0]
    q, k, v = [g.add("MatMul", x, g.constant(g.normal(width, width)))[0] for _ in range(3)]
    scores = g.add("MatMul", split(q, [0, 2, 1, 3]), split(k, [0, 2, 3, 1]))[0]
    scores = g.add(g.one(["Mul", "Div"]), scores, g.scalar(g.real(0.4, 1.5)))[0]
    if g.chance():
        low = g.one([-1e9, -np.inf, -3.4028235e38])
        mask = np.triu(np.full([length, length], low, dtype=np.float32), 1)
        scores = g.add("Add", scores, g.constant(mask))[0] if g.chance() else g.add(
            "Where", g.constant(np.tril(np.ones([length, length], dtype=bool))), scores, g.scalar(low)
        )[0]
    y = g.add("MatMul", g.add("Softmax", scores, axis=-1)[0], split(v, [0, 2, 1, 3]))[0]
    g.add("Reshape", g.add("Transpose", y, perm=[0, 2, 1, 3])[0], g.ints([0, 0, width]))


# Shapes that the graph computes.
@form
def shape_of_shape(g):
    """Reshape to what Shape, Gather and Concat make of a value's shape."""
    x = g.any(ranks=range(2, 5), least=4)
    rank = len(g.shape(x))
    shape = g.add("Shape", x)[0]
    kept = g.add("Gather", shape, g.constant(np.int64(g.int(0, rank - 1))), axis=0)[0]
    axes = {"axes": [0]} if g.opset < 13 else {}
    kept = g.add("Unsqueeze", kept, *([] if axes else [g.ints([0])]), **axes)[0]
    g.add("Reshape", x, g.add("Concat", *([kept, g.ints([-1])] if g.chance() else [g.ints([-1]), kept]), axis=0)[0])


@form
def full_of_shape(g):
    x = g.any()
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [g.real(-1, 1)])
    c = g.add("ConstantOfShape", g.add("Shape", x)[0], value=value)[0]
    g.add(g.one(["Add", "Mul", "Max", "Sub"]), *([x, c] if g.chance() else [c, x]))


@form
def count_of_elements(g):
    x = g.any()
    n = g.add("Cast", g.add("Size", x)[0], to=TensorProto.FLOAT)[0]
    g.add("Div", x, n)


# Operands.
@form
def from_constant(g):
    """A constant less, over, or to the power of a value."""
    x = g.any()
    how = g.one(["Sub", "Div", "Pow", "Where"])
    shape = [d if g.chance() else 1 for d in g.shape(x)][g.int(0, len(g.shape(x))) :]
    c = g.normal(*shape, scale=1.0)
    if how == "Pow":
        g.add("Pow", g.constant(np.abs(c) + np.float32(0.4)), within(g, x, 2.0))
    elif how == "Div":
        g.add("Div", g.constant(c), positive(g, x, 0.5))
    elif how == "Where":
        g.add("Where", g.constant(c > 0), *([x, operand(g, x)] if g.chance() else [operand(g, x), x]))
    else:
        g.add("Sub", g.constant(c), x)


@form
def powers(g):
    x = g.any()
    exponent = g.one([0.0, 1.0, 2.0, 3.0, 4.0, -1.0, -2.0])
    x = positive(g, x, 0.6) if exponent < 0 else x
    kind = np.int64 if g.opset >= 12 and g.chance() else np.float32
    g.add("Pow", x, g.constant(np.full(g.one([[], [1], [1, 1]]), exponent, dtype=kind)))


@form
def gap(g):
    """Truth of a value that is zero in places."""
    x = g.add("Relu", g.any())[0]
    need(all(float(a[a > 0].min(initial=1)) > 3e-5 for a in g.arrays[x]))
    g.add("Equal", x, g.scalar(0.0))


@form
def whether(g):
    c = g.any(np.bool_)
    g.add("Where", c, g.constant(g.normal(*g.one([[], [1]]))), g.scalar(g.real(-1, 1)))


@form
def truth_of_real(g):
    x = g.add("Relu", g.any())[0]
    need(all(float(a[a > 0].min(initial=1)) > 3e-5 for a in g.arrays[x]))
    g.add("Cast", x, to=TensorProto.BOOL)


@form
def clip_forms(g):
    x = g.any()
    low, high = g.real(-1.2, 0.2), g.real(0.2, 1.2)
    if g.opset < 11:
        g.add("Clip", x, **{k: v for k, v in {"min": low, "max": high}.items() if g.chance(0.7)})
    else:
        computed = g.add("ReduceMin", x, keepdims=0)[0] if g.opset < 18 and g.chance() else g.scalar(low)
        g.add("Clip", x, computed, *([g.scalar(high)] if g.chance() else []))


@form
def prelu_of_channel(g):
    x = g.of_rank(g.one([2, 3, 4]), 4)
    c, rank = g.shape(x)[1], len(g.shape(x))
    g.add("PRelu", x, g.constant(g.normal(c, *[1] * (rank - 2)) if rank > 2 else g.normal(c)))


@form
def drop(g):
    x = g.any()
    if g.opset < 12:
        g.add("Dropout", x, ratio=0.3)
    else:
        g.add("Dropout", x, *([g.scalar(0.3), g.constant(np.bool_(False))] if g.chance() else []))


@form
def swish(g):
    need(g.opset >= 24)
    g.add("Swish", g.any(), alpha=g.one([1.0, 0.7]))


@form
def swish_by_hand(g):
    x = g.any()
    s = g.add(g.one(["Sigmoid", "HardSigmoid", "Tanh"]), x)[0]
    g.add("Mul", *([x, s] if g.chance() else [s, x]))


@form
def as_kind(g):
    """There and back through another number format that holds the value well enough."""
    y = g.add("Cast", g.any(), to=TensorProto.DOUBLE)[0]
    g.add("Cast", y, to=TensorProto.FLOAT)
    # Nothing else may read it: other operands are float32.
    del g.arrays[y]


# Movements.
@form
def reshape_to(g):
    x = g.any(least=4)
    size = g.arrays[x][0].size
    extents = []
    for _ in range(g.int(1, 4)):
        extents.append(g.one([d for d in range(1, size + 1) if size % d == 0][:4]))
        size //= extents[-1]
    extents.insert(g.int(0, len(extents)), size)
    if g.chance(0.4):
        extents[g.int(0, len(extents) - 1)] = -1
    g.add("Reshape", x, g.ints(extents), **({"allowzero": 1} if g.opset >= 14 and g.chance(0.3) else {}))


@form
def flatten_behind(g):
    x = g.any(ranks=range(1, 6))
    g.add("Flatten", x, **({"axis": -g.int(1, len(g.shape(x)))} if g.opset >= 11 and g.chance() else {}))


@form
def unsqueeze_many(g):
    x = g.any(ranks=range(0, 4))
    rank = len(g.shape(x)) + 2
    axes = sorted(int(a) for a in g.random.choice(rank, 2, replace=False))
    # Several axes from behind: before opset 13 the evaluator counts each on its own.
    axes = [a - rank if g.opset >= 13 and g.chance(0.3) else a for a in axes]
    g.add("Unsqueeze", x, axes=axes) if g.opset < 13 else g.add("Unsqueeze", x, g.ints(axes))


@form
def squeeze_all(g):
    x = g.any()
    single = [i for i, d in enumerate(g.shape(x)) if d == 1]
    need(single)
    if g.chance():
        g.add("Squeeze", x)
    else:
        axes = [a - len(g.shape(x)) if g.opset >= 11 and g.chance(0.3) else a for a in single[: g.int(1, len(single))]]
        g.add("Squeeze", x, axes=axes) if g.opset < 13 else g.add("Squeeze", x, g.ints(axes))


@form
def transpose_reversed(g):
    g.add("Transpose", g.any(ranks=range(2, 6)))


@form
def there_and_back(g):
    """Channels last and first again, with something between."""
    x = g.of_rank(4, 8)
    y = g.add("Transpose", x, perm=[0, 2, 3, 1])[0]
    y = g.add("MatMul", y, g.constant(g.normal(g.shape(y)[3], g.int(1, 6))))[0] if g.chance() else g.add("Relu", y)[0]
    g.add("Transpose", y, perm=[0, 3, 1, 2])


@form
def split_even(g):
    x = g.any(ranks=range(1, 6))
    shape = g.shape(x)
    axis = int(np.argmax(shape))
    count = g.one([n for n in (2, 3, 4) if shape[axis] % n == 0] or [0])
    if g.opset >= 18:
        count = count or g.int(2, 3)
        need(count <= shape[axis])
        g.add("Split", x, outputs=count, axis=axis - len(shape), num_outputs=count)
    else:
        need(count)
        sizes = {"split": [shape[axis] // count] * count} if g.opset < 13 and g.chance() else {}
        g.add("Split", x, outputs=count, axis=axis, **sizes)


@form
def shuffle(g):
    """Channels of groups change places."""
    x = g.of_rank(4, 16)
    _, c, h, w = g.shape(x)
    groups = g.one([d for d in range(1, c + 1) if c % d == 0])
    y = g.add("Transpose", g.add("Reshape", x, g.ints([1, groups, c // groups, h, w]))[0], perm=[0, 2, 1, 3, 4])[0]
    g.add("Reshape", y, g.ints([1, c, h, w]))


@form
def slice_short(g):
    """Without axes and steps, from behind, past the end."""
    x = g.any(ranks=range(1, 6))
    shape = g.shape(x)
    rank = g.int(1, len(shape))
    starts = [g.int(0, d - 1) - (d if g.chance() else 0) for d in shape[:rank]]
    ends = [g.one([d, 2**31 - 1, 2**62, d + 3]) for d in shape[:rank]]
    if g.opset < 10:
        g.add("Slice", x, starts=starts, ends=ends, axes=list(range(rank)) if g.chance() else None)
    elif g.chance():
        g.add("Slice", x, g.ints(starts), g.ints(ends))
    else:
        g.add("Slice", x, g.ints(starts), g.ints(ends), g.ints([a - len(shape) for a in range(rank)]))


@form
def pad_axes(g):
    x = g.any(ranks=range(1, 6))
    if g.opset < 11:
        g.add("Pad", x, pads=[g.int(0, 2) for _ in range(2 * len(g.shape(x)))], value=g.real(-1, 1), mode="constant")
        return
    need(g.opset >= 18)
    axes = axes_of(g, x)
    mode = g.one(["constant", "edge", "reflect"])
    pads = [g.int(0, min(2, g.shape(x)[a] - 1) if mode == "reflect" else 2) for a in axes * 2]
    g.add("Pad", x, g.ints(pads), "", g.ints(signed(g, axes, len(g.shape(x)))), mode=mode)


@form
def expand_more(g):
    """To a shape of fewer axes, or of ones."""
    x = g.any(ranks=range(1, 5))
    shape = g.shape(x)
    wanted = [d if g.chance() else 1 for d in shape][g.int(0, len(shape) - 1) :]
    g.add("Expand", x, g.ints(wanted))


@form
def concat_empty(g):
    """With a part that holds nothing, as exporters leave behind."""
    x = g.any(ranks=range(1, 5))
    axis = g.int(0, len(g.shape(x)) - 1)
    empty = g.constant(np.zeros([0 if i == axis else d for i, d in enumerate(g.shape(x))], dtype=np.float32))
    g.add("Concat", *([empty, x, x] if g.chance() else [x, empty]), axis=axis)


@form
def blocks(g):
    x = g.of_rank(4, 16)
    n, c, h, w = g.shape(x)
    if g.chance():
        size = g.one([2, 3])
        need(c % (size * size) == 0)
        g.add("DepthToSpace", x, blocksize=size)
    else:
        size = g.one([2, 3])
        need(h % size == 0 and w % size == 0)
        g.add("SpaceToDepth", x, blocksize=size)


@form
def trilu_plain(g):
    need(g.opset >= 14)
    x = g.any(ranks=range(2, 6))
    g.add("Trilu", x) if g.chance() else g.add("Trilu", x, g.constant(np.int64(g.int(-4, 4))))


@form
def cumsum_behind(g):
    x = g.any(ranks=range(1, 6))
    g.add("CumSum", x, g.constant(np.array(axis_of(g, x), dtype=g.one([np.int64, np.int32]))))


# Reductions.
def reduce(operator):
    def build(g):
        x = g.any(ranks=range(1, 6))
        late = g.opset >= (13 if operator == "ReduceSum" else 18)
        how = g.one(["all", "noop", "empty", "behind"])
        if how == "noop":
            need(late)
            g.add(operator, x, noop_with_empty_axes=1)
        elif how == "empty":
            need(late)
            g.add(operator, x, g.ints([]), keepdims=g.int(0, 1))
        elif how == "all":
            g.add(operator, x, keepdims=g.int(0, 1))
        else:
            need(g.opset >= 11)
            given = {} if late else {"axes": [-1]}
            g.add(operator, x, *([g.ints([-1])] if late else []), **given)

    return build


for name in ("Mean", "Sum", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"):
    FORMS["reduce_forms." + name] = reduce("Reduce" + name)


@form
def softmax_behind(g):
    x = g.any(ranks=range(1, 5))
    operator = g.one(["Softmax", "LogSoftmax"])
    given = {"axis": axis_of(g, x)} if g.opset >= 13 and g.chance(0.7) else {}
    # Before opset 13 all axes from `axis` on are one row, which the evaluator does not know.
    given = given if g.opset >= 13 else {"axis": len(g.shape(x)) - 1}
    g.add(operator, x, **given)
