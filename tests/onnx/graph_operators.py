"""Operators of random graphs: one builder a family of ONNX operators, which draws inputs and attributes. See graphs.py."""

import numpy as np
from onnx import TensorProto

TABLE = {}


class Unsuitable(Exception):
    """An operator that does not suit the graph as it is."""


def builder(function):
    TABLE[function.__name__] = function
    return function


def need(condition):
    if not condition:
        raise Unsuitable


def table(name):
    """A builder for each entry of a table of operators, so that they are drawn as often as others."""

    def enter(entries):
        for key, function in entries.items():
            TABLE[f"{name}.{key}"] = function

    return enter


def axes_of(g, x, least=1):
    rank = len(g.shape(x))
    need(rank >= least)
    return sorted(int(a) for a in g.random.choice(rank, g.int(1, min(rank, 3)), replace=False))


def signed(g, axes, rank):
    return [a - rank if g.chance(0.3) else a for a in axes]


def positive(g, x, least=0.3):
    """|x| + least."""
    return g.add("Add", g.add("Abs", x)[0], g.scalar(least))[0]


def within(g, x, bound=0.9):
    return g.add("Mul", g.add("Tanh", x)[0], g.scalar(bound))[0]


# Elementwise.
def unary(operator, since=1, near=None, domain=None, **draws):
    def build(g):
        need(g.opset >= since)
        x = g.any()
        x = domain(g, x) if domain else x
        attributes = {k: d(g) for k, d in draws.items() if g.chance(0.8)}
        if near:
            g.away(x, lambda a: near(a, attributes))
        g.add(operator, x, **attributes)

    return build


NEAR_WHOLE = lambda a, _: a - np.round(a)
NEAR_HALF = lambda a, _: a - np.floor(a) - 0.5
NEAR_ZERO = lambda a, _: a
UNARY = {
    "Relu": {},
    "Selu": {},
    "HardSwish": {"since": 14},
    "Sigmoid": {},
    "Tanh": {},
    "Erf": {},
    "Softplus": {},
    "Softsign": {},
    "Exp": {},
    "Abs": {},
    "Neg": {},
    "Sin": {},
    "Cos": {},
    "Atan": {},
    "Sinh": {},
    "Asinh": {},
    "Identity": {},
    "Cosh": {},
    "Mish": {"since": 18},
    "Gelu": {"since": 20, "approximate": lambda g: g.one(["none", "tanh"])},
    "LeakyRelu": {"alpha": lambda g: g.real(0.01, 0.5)},
    "Elu": {"alpha": lambda g: g.real(0.2, 2.0)},
    "Celu": {"alpha": lambda g: g.real(0.3, 2.0)},
    "HardSigmoid": {"alpha": lambda g: g.real(0.1, 0.5), "beta": lambda g: g.real(0.2, 0.8)},
    "ThresholdedRelu": {"alpha": lambda g: g.real(0.1, 1.0), "near": lambda a, k: a - k.get("alpha", 1.0)},
    "Shrink": {
        "lambd": lambda g: g.real(0.1, 1.0),
        "bias": lambda g: g.real(0.0, 0.5),
        "near": lambda a, k: np.abs(a) - k.get("lambd", 0.5),
    },
    "Sign": {"near": NEAR_ZERO},
    "Floor": {"near": NEAR_WHOLE},
    "Ceil": {"near": NEAR_WHOLE},
    "Round": {"near": NEAR_HALF},
    "Log": {"domain": positive},
    "Sqrt": {"domain": positive},
    "Reciprocal": {"domain": positive},
    "Asin": {"domain": within},
    "Acos": {"domain": within},
    "Atanh": {"domain": within},
    "Tan": {"domain": within},
    "Acosh": {"domain": lambda g, x: positive(g, x, 1.2)},
}
table("unary")({name: unary(name, **entry) for name, entry in UNARY.items()})


def operand(g, x):
    """A constant or computed operand that broadcasts with x."""
    shape = g.shape(x)
    if g.chance(0.4):
        fitting = [n for n in g.values() if broadcasts(g.shape(n), shape)]
        return g.one(fitting)
    kept = [d if g.chance(0.6) else 1 for d in shape][g.int(0, len(shape)) :]
    return g.constant(g.normal(*kept, scale=g.one([0.2, 1.0])))


def broadcasts(a, b):
    return all(m == n or 1 in (m, n) for m, n in zip(a[::-1], b[::-1]))


def arithmetic(operator):
    def build(g):
        x = g.any()
        y = operand(g, x)
        if operator == "Div":
            y = positive(g, y, 0.5)
        pair = [x, y] if operator == "Div" or g.chance() else [y, x]
        g.add(operator, *pair)

    return build


def variadic(operator):
    def build(g):
        x = g.any()
        g.add(operator, *([x] + [operand(g, x) for _ in range(g.int(0, 2))]))

    return build


table("arithmetic")({name: arithmetic(name) for name in ["Add", "Sub", "Mul", "Div"]})
table("variadic")({name: variadic(name) for name in ["Min", "Max", "Sum", "Mean"]})


@builder
def clip(g):
    low, high = g.real(-1.5, 0.3), g.real(0.3, 1.5)
    g.add("Clip", g.any(), g.scalar(low) if g.chance(0.8) else "", *([g.scalar(high)] if g.chance(0.8) else []))


@builder
def power(g):
    x = g.any()
    if g.chance():
        g.add("Pow", x, g.scalar(g.one([2.0, 3.0])))
    else:
        g.add("Pow", positive(g, x), operand(g, x) if g.chance() else g.scalar(g.one([0.5, -1.0, 1.7])))


@builder
def modulo(g):
    x, by = g.any(), g.real(0.4, 1.5)
    g.away(x, lambda a: a / by - np.round(a / by))
    g.add("Mod", x, g.scalar(by), fmod=1)


@builder
def prelu(g):
    x = g.any()
    shape = g.shape(x)
    g.add("PRelu", x, g.constant(g.normal(*[d if g.chance() else 1 for d in shape][g.int(0, len(shape)) :])))


# Truth values.
@builder
def compare(g):
    x = g.any()
    y = operand(g, x)
    operator = g.one(["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
    need(all(float(np.abs(a - b).min()) > 3e-5 for a, b in zip(g.arrays[x], g.arrays[y])))
    g.add(operator, *([x, y] if g.chance() else [y, x]))


@builder
def connect(g):
    x = g.any(np.bool_)
    fitting = [n for n in g.values(np.bool_) if broadcasts(g.shape(n), g.shape(x))]
    g.add(g.one(["And", "Or", "Xor"]), x, g.one(fitting))


@builder
def choose(g):
    c = g.any(np.bool_)
    fitting = [n for n in g.values() if broadcasts(g.shape(n), g.shape(c))]
    need(fitting)
    x = g.one(fitting)
    pair = [x, operand(g, x)]
    g.add("Where", c, *(pair if g.chance() else pair[::-1]))


TABLE["Not"] = lambda g: g.add("Not", g.any(np.bool_))


@builder
def equal(g):
    x = g.any(np.int64)
    g.add("Equal", x, g.ints([g.int(0, 3)]))


@builder
def truth_as_real(g):
    g.add("Cast", g.any(np.bool_), to=TensorProto.FLOAT)


# Movements.
@builder
def reshape(g):
    x = g.any(least=2)
    shape = g.shape(x)
    at = g.int(0, len(shape) - 1) if shape else 0
    wanted = shape[:at] + [-1] if g.chance() else [0] * min(at, len(shape)) + [-1]
    g.add("Reshape", x, g.ints(wanted))


@builder
def flatten(g):
    x = g.any()
    g.add("Flatten", x, axis=g.int(0, len(g.shape(x))))


@builder
def unsqueeze(g):
    x = g.any(ranks=range(0, 5))
    at = g.int(0, len(g.shape(x)))
    g.add("Unsqueeze", x, g.ints([at if g.chance() else at - len(g.shape(x)) - 1]))


@builder
def squeeze(g):
    x = g.any()
    single = [i for i, d in enumerate(g.shape(x)) if d == 1]
    need(single)
    g.add("Squeeze", x, g.ints([g.one(single)]))


@builder
def transpose(g):
    x = g.any()
    g.add("Transpose", x, perm=[int(a) for a in g.random.permutation(len(g.shape(x)))])


@builder
def concat(g):
    x = g.any(ranks=range(1, 6))
    shape = g.shape(x)
    axis = g.int(0, len(shape) - 1)
    alike = lambda s: len(s) == len(shape) and all(a == b for i, (a, b) in enumerate(zip(s, shape)) if i != axis)
    others = [n for n in g.values(ranks=[len(shape)]) if alike(g.shape(n))]
    parts = [x] + [g.one(others) for _ in range(g.int(0, 2))]
    if g.chance(0.3):
        parts.append(g.constant(g.normal(*[2 if i == axis else d for i, d in enumerate(shape)])))
    g.add("Concat", *parts, axis=signed(g, [axis], len(shape))[0])


@builder
def split(g):
    x = g.any(ranks=range(1, 6))
    shape = g.shape(x)
    axis = int(np.argmax(shape))
    need(shape[axis] >= 2)
    cut = g.int(1, shape[axis] - 1)
    g.add("Split", x, g.ints([cut, shape[axis] - cut]), outputs=2, axis=axis)


@builder
def slice_(g):
    x = g.any(ranks=range(1, 6))
    shape = g.shape(x)
    starts, ends, axes, steps = [], [], [], []
    for a in axes_of(g, x):
        step = g.one([1, 1, 2, -1, -2])
        low, high = sorted([g.int(0, shape[a]), g.int(0, shape[a])])
        low, high = (low, high) if step > 0 else (high, low - 1 if low else -1000)
        starts.append(low)
        ends.append(high if g.chance() or high != shape[a] else 2**40)
        axes.append(a)
        steps.append(step)
    g.add("Slice", x, g.ints(starts), g.ints(ends), g.ints(axes), g.ints(steps))


@builder
def pad(g):
    x = g.any(ranks=range(1, 6))
    shape = g.shape(x)
    mode = g.one(["constant", "reflect", "edge"] + ["wrap"] * (g.opset >= 19))
    pads = [g.int(-1, 2) if g.chance(0.4) else 0 for _ in range(2 * len(shape))]
    if mode != "constant":
        need(all(abs(p) < shape[i % len(shape)] for i, p in enumerate(pads)))
        pads = [max(p, 0) for p in pads]
    g.add("Pad", x, g.ints(pads), *([g.scalar(g.real(-1, 1))] if g.chance() and mode == "constant" else []), mode=mode)


@builder
def expand(g):
    x = g.any(ranks=range(0, 5))
    shape = g.shape(x)
    wanted = [g.int(2, 3) if d == 1 and g.chance() else d for d in shape]
    g.add("Expand", x, g.ints(([g.int(1, 2)] if g.chance(0.3) else []) + wanted))


@builder
def tile(g):
    x = g.any(ranks=range(1, 6))
    g.add("Tile", x, g.ints([g.one([1, 1, 1, 2, 3]) for _ in g.shape(x)]))


@builder
def depth_to_space(g):
    x = g.of_rank(4, 16)
    need(g.shape(x)[1] % 4 == 0)
    g.add("DepthToSpace", x, blocksize=2, mode=g.one(["DCR", "CRD"]))


@builder
def space_to_depth(g):
    x = g.of_rank(4, 16)
    need(all(d % 2 == 0 for d in g.shape(x)[2:]))
    g.add("SpaceToDepth", x, blocksize=2)


@builder
def trilu(g):
    need(g.opset >= 14)
    g.add("Trilu", g.any(ranks=range(2, 6)), g.constant(np.int64(g.int(-1, 2))), upper=g.int(0, 1))


@builder
def cumsum(g):
    x = g.any(ranks=range(1, 6))
    axis = g.int(0, len(g.shape(x)) - 1)
    g.add("CumSum", x, g.constant(np.int64(axis)), exclusive=g.int(0, 1), reverse=g.int(0, 1))


@builder
def reverse_sequence(g):
    x = g.any(ranks=range(2, 6))
    shape = g.shape(x)
    batch, time = g.one([(0, 1), (1, 0)])
    lengths = [g.int(1, shape[time]) for _ in range(shape[batch])]
    g.add("ReverseSequence", x, g.ints(lengths), batch_axis=batch, time_axis=time)


# Indices.
@builder
def gather(g):
    x = g.any(ranks=range(1, 5))
    axis = g.int(0, len(g.shape(x)) - 1)
    extent = g.shape(x)[axis]
    indices = g.random.integers(-extent, extent, [g.int(1, 3) for _ in range(g.int(0, 2))])
    g.add("Gather", x, g.constant(np.asarray(indices, dtype=np.int64)), axis=axis)


@builder
def gather_elements(g):
    x = g.any(ranks=range(1, 5))
    shape = g.shape(x)
    axis = g.int(0, len(shape) - 1)
    shape[axis] = g.int(1, 4)
    extent = g.shape(x)[axis]
    g.add("GatherElements", x, g.constant(g.random.integers(0, extent, shape)), axis=axis)


@builder
def gather_nd(g):
    x = g.any(ranks=range(1, 5))
    shape = g.shape(x)
    depth = g.int(1, len(shape))
    indices = np.stack([g.random.integers(0, d, [g.int(1, 1) + 2]) for d in shape[:depth]], -1)
    g.add("GatherND", x, g.constant(indices))


def reduction(g):
    return g.one(["none", "add", "mul"] + ["max", "min"] * (g.opset >= 18)) if g.opset >= 16 else None


@builder
def scatter_elements(g):
    x = g.any(ranks=range(1, 5))
    part = g.shape(x)
    axis = g.int(0, len(part) - 1)
    # Each place is written once: of several writes the evaluator keeps the last, whatever the reduction.
    order = np.argsort(g.random.random(part), axis=axis)
    part[axis] = g.int(1, part[axis])
    indices = np.take(order, range(part[axis]), axis=axis).astype(np.int64)
    updates = g.constant(g.normal(*part, scale=1.0))
    g.add("ScatterElements", x, g.constant(indices), updates, axis=axis, reduction=reduction(g))


@builder
def scatter_nd(g):
    x = g.any(ranks=range(1, 5))
    shape = g.shape(x)
    how = reduction(g)
    count = min(shape[0], 2)
    indices = g.random.permutation(shape[0])[:count].reshape(count, 1)
    g.add(
        "ScatterND", x, g.constant(indices.astype(np.int64)), g.constant(g.normal(count, *shape[1:], scale=1.0)), reduction=how
    )


@builder
def top_k(g):
    x = g.any(ranks=range(1, 5))
    axis = g.int(0, len(g.shape(x)) - 1)
    g.apart(x, axis)
    g.add("TopK", x, g.ints([g.int(1, g.shape(x)[axis])]), outputs=2, axis=axis, largest=g.int(0, 1), sorted=1)


@builder
def arg(g):
    x = g.any(ranks=range(1, 5))
    axis = g.int(0, len(g.shape(x)) - 1)
    g.apart(x, axis)
    g.add(g.one(["ArgMax", "ArgMin"]), x, axis=axis, keepdims=g.int(0, 1), select_last_index=g.int(0, 1))


@builder
def look_up(g):
    """Rows of a constant by indices that the graph computes."""
    i = g.any(np.int64)
    rows = max(int(a.max()) for a in g.arrays[i]) + g.int(1, 3)
    need(rows <= 64)
    g.add("Gather", g.constant(g.normal(rows, g.int(1, 5), scale=1.0)), i, axis=0)


@builder
def one_hot(g):
    i = g.any(np.int64)
    depth = max(int(a.max()) for a in g.arrays[i]) + 1
    need(depth <= 24)
    g.add("OneHot", i, g.constant(np.int64(depth)), g.constant(g.normal(2, scale=1.0)), axis=g.one([-1, 0]))


@builder
def whole_as_real(g):
    g.add("Cast", g.any(np.int64), to=TensorProto.FLOAT)


@builder
def real_as_whole(g):
    x = g.any()
    g.away(x, lambda a: a - np.round(a))
    g.add("Cast", x, to=TensorProto.INT64)


# Reductions.
def reduce(operator):
    def build(g):
        x = g.any(ranks=range(1, 6))
        axes = signed(g, axes_of(g, x), len(g.shape(x)))
        if operator == "ReduceLogSum":
            x = positive(g, x)
        late = g.opset >= (13 if operator == "ReduceSum" else 18)
        given = {} if late else {"axes": axes}
        g.add(operator, x, *([g.ints(axes)] if late else []), keepdims=g.int(0, 1), **given)

    return build


REDUCTIONS = ["Mean", "Sum", "Max", "Min", "L1", "L2", "SumSquare", "LogSum", "LogSumExp", "Prod"]
table("reduce")({name: reduce("Reduce" + name) for name in REDUCTIONS})


def along(operator):
    def build(g):
        x = g.any(ranks=range(1, 5))
        # Before opset 13 all axes from `axis` on are one row, which the evaluator does not know.
        axis = g.int(0, len(g.shape(x)) - 1) if g.opset >= 13 else len(g.shape(x)) - 1
        if operator == "Hardmax":
            g.apart(x, axis)
        g.add(operator, x, axis=axis)

    return build


table("along")({name: along(name) for name in ["Softmax", "LogSoftmax", "Hardmax"]})
