"""Networks of which a run computes one part: early exits and mixtures of experts, in the forms in which PyTorch and ONNX write them.

graphs.py FOLDER routing writes them, with their answers.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from graph_operators import Unsuitable


class Branch:
    """A subgraph that grows; names of the graph around it are read as they are."""

    def __init__(self, g):
        self.g, self.nodes, self.constants, self.reads, self.written = g, [], [], [], set()

    def add(self, operator, *inputs, **attributes):
        name = self.g.name("b")
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        self.reads += [i for i in inputs if i not in self.written]
        self.written.add(name)
        return name

    def constant(self, array):
        name = self.g.name("k")
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        self.written.add(name)
        return name

    def dense(self, x, inputs, outputs, activation="Relu"):
        w, b = self.constant(self.g.normal(inputs, outputs)), self.constant(self.g.normal(outputs, scale=0.2))
        y = self.add("Add", self.add("MatMul", x, w), b)
        return self.add(activation, y) if activation else y

    def graph(self, *outputs):
        described = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        return helper.make_graph(self.nodes, self.g.name("g"), [], described, self.constants)


def dense(g, x, inputs, outputs, activation="Relu"):
    y = g.add("Gemm", x, g.constant(g.normal(inputs, outputs)), g.constant(g.normal(outputs, scale=0.2)))[0]
    return g.add(activation, y)[0] if activation else y


def choose(g, condition, then, other, outputs=1):
    """If: `then` and `other` build a branch each and give its outputs."""
    made = []
    for build in (then, other):
        branch = Branch(g)
        made.append((branch, branch.graph(*build(branch))))
    reads = dict.fromkeys(n for branch, _ in made for n in branch.reads)
    return g.add_reading(
        "If", [condition], list(reads), outputs, then_branch=made[0][1], else_branch=made[1][1]
    )


def above(g, x, threshold):
    """Whether a number is above a threshold; no sample lies near it."""
    g.away(x, lambda a: a - threshold, 2e-2)
    return g.add("Greater", x, g.constant(np.float32(threshold)))[0]


def middle(g, x):
    """A threshold about which samples lie on both sides, none near."""
    values = np.sort([float(a.ravel()[0]) for a in g.arrays[x]])
    gaps = np.diff(values)
    inner = range(len(values) // 4, 3 * len(values) // 4)
    at = max(inner, key=lambda i: gaps[i])
    return float((values[at] + values[at + 1]) / 2)


def trunk(g, hidden=16):
    return dense(g, g.add_input([1, 20]), 20, hidden)


def early_exit(g):
    """A classifier after the first layers answers if it is sure, otherwise the layers behind it."""
    h = trunk(g)
    scores = dense(g, h, 16, 5, None)
    sure = g.add("ReduceMax", g.add("Softmax", scores, axis=-1)[0], keepdims=0)[0]

    def rest(b):
        return [b.dense(b.dense(b.dense(h, 16, 32), 32, 24), 24, 5, None)]

    choose(g, above(g, sure, middle(g, sure)), lambda b: [b.add("Identity", scores)], rest)


def stages(g):
    """Three stages: an exit within the branch of an exit."""
    h = trunk(g)
    first = dense(g, h, 16, 4, None)
    sure = g.add("ReduceMax", first, keepdims=0)[0]

    def rest(b):
        deeper = b.dense(h, 16, 24)
        second = b.dense(deeper, 24, 4, None)
        enough = b.add("Greater", b.add("ReduceMean", second, keepdims=0), b.constant(np.float32(0.1)))
        inner, other = Branch(g), Branch(g)
        nothing = inner.add("Identity", second)
        last = other.dense(other.dense(deeper, 24, 24), 24, 4, None)
        name = g.name("b")
        b.nodes.append(
            helper.make_node("If", [enough], [name], then_branch=inner.graph(nothing), else_branch=other.graph(last))
        )
        b.written.add(name)
        return [name]

    choose(g, above(g, sure, middle(g, sure)), lambda b: [b.add("Identity", first)], rest)


def two_results(g):
    """Both results of a branch come from one trunk of it."""
    h = trunk(g)
    mean = g.add("ReduceMean", h, keepdims=0)[0]

    def build(b):
        own = b.dense(h, 16, 20)
        return [b.dense(own, 20, 6, None), b.dense(own, 20, 3, "Tanh")]

    choose(g, above(g, mean, middle(g, mean)), build, build, outputs=2)


def images(g):
    """Convolutions in the branches, channels first."""
    x = g.add_input([1, 3, 8, 8])
    h = g.add("Relu", g.add("Conv", x, g.constant(g.normal(8, 3, 3, 3)), pads=[1, 1, 1, 1])[0])[0]
    mean = g.add("ReduceMean", h, keepdims=0)[0]

    def build(kernel):
        def branch(b):
            w = b.constant(g.normal(8, 8, kernel, kernel, scale=0.2))
            return [b.add("Relu", b.add("Conv", h, w, pads=[kernel // 2] * 4))]

        return branch

    chosen = choose(g, above(g, mean, middle(g, mean)), build(3), build(1))[0]
    g.add("GlobalAveragePool", chosen)


def gate_of(g, x, width, experts):
    """The share of each expert; no sample is near a tie, and each expert is the best of some."""
    scores = g.add("MatMul", x, g.constant(g.normal(width, experts, scale=2.0)))[0]
    gate = g.add("Softmax", scores, axis=-1)[0]
    best = [np.sort(a.ravel())[::-1] for a in g.arrays[gate]]
    if min(b[0] - b[1] for b in best) < 5e-2 or len({int(a.argmax()) for a in g.arrays[gate]}) < experts:
        raise Unsuitable("ties")
    return gate


def routed(g, x, width, experts):
    """The index of the expert, [1, 1], and its weight."""
    gate = gate_of(g, x, width, experts)
    best, index = g.add("TopK", gate, g.ints([1]), outputs=2, axis=-1)
    return index, best


def stacked_experts(g):
    """All experts, stacked, and gathered by ArgMax (torch.stack(...)[index])."""
    h = trunk(g)
    index = g.add("ArgMax", gate_of(g, h, 16, 4), axis=-1, keepdims=0)[0]
    outs = [g.add("Unsqueeze", dense(g, dense(g, h, 16, 24), 24, 8, None), g.ints([0]))[0] for _ in range(4)]
    stack = g.add("Concat", *outs, axis=0)[0]
    y = g.add("Squeeze", g.add("Gather", stack, index, axis=0)[0], g.ints([0]))[0]
    dense(g, y, 8, 5, None)


def weighted_experts(g):
    """As stacked_experts, along axis 1 with torch.gather, times the weight of the gate."""
    h = trunk(g)
    index, weight = routed(g, h, 16, 4)
    outs = [g.add("Unsqueeze", dense(g, dense(g, h, 16, 20), 20, 6, None), g.ints([1]))[0] for _ in range(4)]
    stack = g.add("Concat", *outs, axis=1)[0]
    wide = g.add("Expand", g.add("Unsqueeze", index, g.ints([2]))[0], g.ints([1, 1, 6]))[0]
    y = g.add("Squeeze", g.add("GatherElements", stack, wide, axis=1)[0], g.ints([1]))[0]
    g.add("Mul", y, weight)


def gathered_weights(g):
    """The weights and biases of two layers, gathered by the index (self.w1[index])."""
    h = trunk(g)
    index, _ = routed(g, h, 16, 4)
    index = g.add("Squeeze", index, g.ints([0, 1]))[0]
    for inputs, outputs in ((16, 24), (24, 6)):
        w = g.add("Gather", g.constant(g.normal(4, inputs, outputs)), index, axis=0)[0]
        b = g.add("Gather", g.constant(g.normal(4, outputs)), index, axis=0)[0]
        h = g.add("Add", g.add("MatMul", h, w)[0], b)[0]
        h = g.add("Relu", h)[0] if inputs == 16 else h


def where_sure(g):
    """torch.where between the answers of two networks, by one truth value."""
    h = trunk(g)
    small = dense(g, h, 16, 5, None)
    large = dense(g, dense(g, h, 16, 32), 32, 5, None)
    most = g.add("ReduceMax", small, axes=[1], keepdims=1)[0] if g.opset < 18 else g.add("ReduceMax", small, g.ints([1]))[0]
    g.add("Where", above(g, most, middle(g, most)), small, large)


NETWORKS = [
    early_exit, stages, two_results, images, stacked_experts, weighted_experts, gathered_weights, where_sure,
]
