"""Integers of random graphs: arithmetic on them, choices by computed and constant indices, tokens. See graph_forms.py."""

import numpy as np
from graph_forms import axis_of, form, place
from graph_operators import broadcasts, need, reduction


@form
def arg_behind(g):
    x = g.any(ranks=range(1, 5))
    axis = axis_of(g, x)
    g.apart(x, place(g, x, axis))
    g.add(g.one(["ArgMax", "ArgMin"]), x, axis=axis, **({"keepdims": 0} if g.chance() else {}))


@form
def whole_arithmetic(g):
    i = g.any(np.int64)
    how = g.one(["Add", "Sub", "Mul", "Max", "Min", "Neg", "Abs", "ReduceSum", "ReduceMax", "Clip", "Div", "Mod", "Where"])
    need(g.opset >= 12)
    if how in ("Neg", "Abs"):
        g.add(how, i)
    elif how == "ReduceSum":
        need(g.opset >= 13)
        g.add(how, i, keepdims=g.int(0, 1))
    elif how == "ReduceMax":
        g.add(how, i, keepdims=g.int(0, 1))
    elif how == "Clip":
        g.add(how, i, g.ints(np.int64(1)), g.ints(np.int64(4)))
    elif how in ("Div", "Mod"):
        need(min(int(a.min()) for a in g.arrays[i]) >= 0)
        g.add(how, i, g.ints([g.int(1, 4)]))
    elif how == "Where":
        need(g.shape(i))
        g.add(how, g.constant(g.random.random(g.shape(i)[-1:]) < 0.5), i, g.ints([g.int(0, 3)]))
    else:
        others = [n for n in g.values(np.int64) if broadcasts(g.shape(n), g.shape(i))]
        g.add(how, i, g.one(others) if g.chance() else g.ints([g.int(0, 3)]))


@form
def whole_compare(g):
    need(g.opset >= 12)
    i = g.any(np.int64)
    g.add(g.one(["Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"]), i, g.ints([g.int(0, 4)]))


@form
def whole_moves(g):
    i = g.any(np.int64, ranks=range(1, 5))
    how = g.one(["Reshape", "Transpose", "Concat", "Gather", "Flatten"])
    if how == "Reshape":
        g.add(how, i, g.ints([-1]))
    elif how == "Concat":
        g.add(how, i, i, axis=0)
    elif how == "Gather":
        g.add(how, i, g.constant(np.int64(0)), axis=0)
    else:
        g.add(how, i)


@form
def pick(g):
    """Elements of a computed value by computed indices."""
    x = g.any(ranks=range(1, 5))
    axis = axis_of(g, x)
    extent = g.shape(x)[place(g, x, axis)]
    fitting = [i for i in g.values(np.int64) if all(a.min() >= 0 and a.max() < extent for a in g.arrays[i])]
    need(fitting)
    i = g.one(fitting)
    if g.chance() and len(g.shape(i)) == len(g.shape(x)):
        inside = all(a <= b for k, (a, b) in enumerate(zip(g.shape(i), g.shape(x))) if k != place(g, x, axis))
        need(inside and g.opset >= 11)
        g.add("GatherElements", x, i, axis=axis)
    else:
        g.add("Gather", x, i, axis=axis)


@form
def best(g):
    """The largest elements, and others at their places."""
    x = g.any(ranks=range(1, 5))
    axis = axis_of(g, x)
    g.apart(x, place(g, x, axis))
    k = g.int(1, g.shape(x)[place(g, x, axis)])
    if g.opset < 10:
        _, at = g.add("TopK", x, outputs=2, axis=axis, k=k)
    else:
        _, at = g.add("TopK", x, g.ints([k]), outputs=2, axis=axis)
    if g.opset >= 11:
        g.add("GatherElements", g.add("Tanh", x)[0], at, axis=axis)


@form
def gather_in_batch(g):
    need(g.opset >= 12)
    x = g.any(ranks=range(2, 5))
    shape = g.shape(x)
    indices = g.random.integers(0, shape[1], [shape[0], g.int(1, 3), 1])
    g.add("GatherND", x, g.constant(indices), batch_dims=1)


@form
def scatter_deep(g):
    need(g.opset >= 11)
    x = g.any(ranks=range(2, 5))
    shape = g.shape(x)
    count = min(shape[0] * shape[1], 3)
    flat = g.random.permutation(shape[0] * shape[1])[:count]
    indices = np.stack([flat // shape[1], flat % shape[1]], -1).astype(np.int64)
    updates = [n for n in g.values() if g.shape(n) == [count, *shape[2:]]]
    updates = g.one(updates) if updates else g.constant(g.normal(count, *shape[2:], scale=1.0))
    g.add("ScatterND", x, g.constant(indices), updates, **({"reduction": reduction(g)} if g.opset >= 16 else {}))


@form
def one_hot_between(g):
    i = g.any(np.int64)
    depth = max(int(a.max()) for a in g.arrays[i]) + 2
    need(depth <= 24)
    values = g.constant(np.array([0, 1], dtype=np.float32))
    g.add("OneHot", i, g.constant(np.array([depth], dtype=np.int64)), values, axis=g.int(0, len(g.shape(i))))


@form
def tokens(g):
    """Rows of a table by an input of tokens, with places added."""
    i = g.one(g.tokens or [None])
    need(i)
    width = g.int(2, 6)
    y = g.add("Gather", g.constant(g.normal(g.vocabulary, width, scale=1.0)), i)[0]
    if g.chance():
        g.add("Add", y, g.constant(g.normal(*g.shape(i)[1:], width)))


@form
def compress(g):
    x = g.any(ranks=range(1, 5))
    axis = g.int(0, len(g.shape(x)) - 1)
    kept = g.random.random(g.shape(x)[axis]) < 0.6
    need(kept.any())
    g.add("Compress", x, g.constant(kept), axis=axis)
