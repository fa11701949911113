"""Writes random graphs of the supported operators with the answers of ONNX's reference evaluator, for tests/graphs.rs.

usage: graphs.py FOLDER COUNT SEED
       graphs.py FOLDER each
       graphs.py FOLDER routing

Graph number i of a seed is the same in every run. Each has 24 calibration samples (`c*.npy`) and 8 samples with answers
(`x*.npy`, `y*.npy`). `cases.json` lists them. With `each`, each family of
operators has some graphs of its own, whose `main` is its operator; with `routing`, the networks of routing.py. Prints the
subfolder. Exit code 3: the package `onnx` is not there.

A graph grows operator by operator. Each is evaluated on all samples at once when it is added, and is left out if its
results are not finite, large, empty, constant, or near a jump (a threshold, a tie), where float32 may decide either way.
"""

import collections
import hashlib
import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
try:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(3)

import graph_integers  # noqa: F401, it enters its builders
import graph_layer_forms  # noqa: F401, the same
import graph_layers  # noqa: F401, the same
from graph_forms import FORMS
from graph_operators import TABLE, Unsuitable
from routing import NETWORKS

CALIBRATION, TESTED = 24, 8
SAMPLES = CALIBRATION + TESTED
OPSETS = [9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22, 23, 23] + [24] * (onnx.defs.onnx_opset_version() >= 24)
# Opsets of graphs of one family.
EACH_OPSETS = [23, 22]
# Bounds of what a value may be.
LARGEST, MOST_ELEMENTS, MOST_AXES = 100.0, 1500, 6
# What stands before the numbers of names: plain, as PyTorch and TensorFlow write them, and what a parser might stumble over.
STEMS = ["", "", "/model/layer.0/", "a:0/", "x y ", "é", "w/reshape", "0", "-", "a/very/long/path/" * 12]
KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64, np.dtype(np.bool_): TensorProto.BOOL}


class Growing:
    """A graph that grows: its nodes, and the arrays of each value for all samples."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.opset = int(self.random.choice(OPSETS))
        self.nodes, self.constants, self.inputs = [], [], []
        self.arrays, self.read, self.operators = {}, set(), []
        self.count, self.stem = 0, ""
        self.tokens, self.vocabulary = [], 12

    def name(self, stem):
        self.count += 1
        return f"{self.stem}{stem}{self.count}"

    # What operators draw.
    def chance(self, p=0.5):
        return bool(self.random.random() < p)

    def one(self, choices):
        return choices[int(self.random.integers(len(choices)))]

    def int(self, low, high):
        """From low to high, both included."""
        return int(self.random.integers(low, high + 1))

    def real(self, low, high):
        return round(float(self.random.uniform(low, high)), 3)

    def normal(self, *shape, scale=0.5):
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    # Values.
    def shape(self, name):
        return list(self.arrays[name][0].shape)

    def add_input(self, shape):
        name = self.name("x")
        low, high = self.one([(-1, 1), (0, 1), (-2, 2), (-0.5, 1.5), (-3, 1)])
        self.arrays[name] = [self.random.uniform(low, high, shape).astype(np.float32) for _ in range(SAMPLES)]
        self.inputs.append(name)
        return name

    def add_tokens(self, shape):
        name = self.name("t")
        self.arrays[name] = [self.random.integers(0, self.vocabulary, shape) for _ in range(SAMPLES)]
        self.inputs.append(name)
        self.tokens.append(name)
        return name

    def constant(self, array):
        """An initialiser; one of the same numbers may be there already."""
        array = np.asarray(array)
        for held in self.constants if self.chance(0.3) else []:
            same = self.arrays[held.name][0]
            if same.dtype == array.dtype and same.shape == array.shape and (same == array).all():
                return held.name
        name = self.name("w")
        self.constants.append(numpy_helper.from_array(array, name))
        self.arrays[name] = [array] * SAMPLES
        return name

    def ints(self, values):
        return self.constant(np.array(values, dtype=np.int64))

    def scalar(self, value):
        return self.constant(np.float32(value))

    def values(self, kind=np.float32, ranks=range(0, MOST_AXES + 1), least=1):
        made = {o for node in self.nodes for o in node.output} | set(self.inputs)
        fits = lambda a: a.dtype == kind and a.ndim in ranks and a.size >= least
        return [n for n in self.arrays if n in made and fits(self.arrays[n][0])]

    def any(self, kind=np.float32, ranks=range(0, MOST_AXES + 1), least=1):
        """A value that was computed or given, more often one of the last."""
        found = self.values(kind, ranks, least)
        if not found:
            raise Unsuitable
        at = min(int(self.random.exponential(2.0)), len(found) - 1)
        return found[-1 - at]

    def of_rank(self, rank, least=1):
        """A value of this rank, reshaped if need be; axis 0 has one element."""
        fitting = [n for n in self.values(ranks=[rank], least=least) if self.shape(n)[:1] == [1]]
        if fitting and self.chance(0.8):
            return fitting[-1 - min(int(self.random.exponential(1.0)), len(fitting) - 1)]
        x = self.any(least=max(least, 4))
        rest, extents = self.arrays[x][0].size, []
        for left in range(rank - 2, 0, -1):
            divisors = [d for d in range(1, rest + 1) if rest % d == 0 and d <= max(2, round(rest ** (1 / left)))]
            extents.append(self.one(divisors[-3:]))
            rest //= extents[-1]
        shape = [1] + ([rest] if rank > 1 else [])
        shape[1:1] = extents if self.chance() else []
        shape = shape if len(shape) == rank else shape + extents
        return self.add("Reshape", x, self.ints(shape))[0]

    # Operators.
    def add(self, operator, *inputs, outputs=1, **attributes):
        """Appends a node, with inputs by name ("" is one left out). Its outputs' names."""
        return self.add_reading(operator, inputs, [], outputs, **attributes)

    def add_reading(self, operator, inputs, inner, outputs=1, **attributes):
        """[`add`], of a node whose subgraphs read the values `inner`."""
        if len(attributes) != len([v for v in attributes.values() if v is not None]):
            attributes = {k: v for k, v in attributes.items() if v is not None}
        names = [self.name("v") for _ in range(outputs)]
        given = [n for n in dict.fromkeys([*inputs, *inner]) if n]
        describe = lambda n, a: helper.make_tensor_value_info(n, KINDS[a.dtype], None)
        try:
            node = helper.make_node(operator, list(inputs), names, **attributes)
            graph = helper.make_graph(
                [node],
                "one",
                [describe(n, self.arrays[n][0]) for n in given],
                [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names],
            )
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir(self.opset))
            # Builders need not know which opset has an operator, an attribute or an input.
            if not inner and not any(a.HasField("g") for a in node.attribute):
                context = onnx.checker.C.CheckerContext()
                context.ir_version, context.opset_imports = ir(self.opset), {"": self.opset}
                onnx.checker.check_node(node, context)
            evaluator = ReferenceEvaluator(model)
            results = [evaluator.run(None, {n: self.arrays[n][i] for n in given}) for i in range(SAMPLES)]
        except Exception as error:
            raise Unsuitable(f"{operator}: {error}") from error
        for k, name in enumerate(names):
            arrays = [np.asarray(r[k]) for r in results]
            arrays = [a.astype(np.float32) if a.dtype == np.float64 else a for a in arrays]
            self.check(operator, arrays)
            self.arrays[name] = arrays
        self.nodes.append(node)
        self.operators.append(operator)
        self.read.update(given)
        return names

    def check(self, operator, arrays):
        first = arrays[0]
        if first.dtype not in KINDS or any(a.shape != first.shape or a.dtype != first.dtype for a in arrays):
            raise Unsuitable(f"{operator}: type or shape")
        if first.size == 0 or first.size > MOST_ELEMENTS or first.ndim > MOST_AXES:
            raise Unsuitable(f"{operator}: size")
        if first.dtype == np.float32:
            largest = max(float(np.abs(a).max()) for a in arrays)
            if not np.isfinite(largest) or largest > LARGEST:
                raise Unsuitable(f"{operator}: range")

    def away(self, name, points, distance=3e-5):
        """Unsuitable if an element of the value lies near one of the points; `points` maps an array to distances."""
        if any(float(np.abs(points(a)).min()) < distance for a in self.arrays[name]):
            raise Unsuitable("near a jump")

    def apart(self, name, axis, distance=3e-5):
        """Unsuitable if two elements along the axis are nearly equal."""
        for a in self.arrays[name]:
            ordered = np.sort(a, axis=axis)
            if ordered.shape[axis] > 1 and float(np.diff(ordered, axis=axis).min()) < distance:
                raise Unsuitable("ties")

    def grow(self, table):
        """Appends the operators of one builder, or nothing."""
        held = (list(self.nodes), list(self.constants), dict(self.arrays), set(self.read), list(self.operators))
        name = self.one(list(table))
        try:
            table[name](self)
            return True
        except Unsuitable:
            self.nodes, self.constants, self.arrays, self.read, self.operators = held
            return False

    def outputs(self):
        """Values that depend on the sample: those that nothing reads, at times one more; truth and integers as float32."""
        made = [o for node in self.nodes for o in node.output if o in self.arrays]
        moving = lambda n: any((a != self.arrays[n][0]).any() for a in self.arrays[n])
        found = [n for n in made if n not in self.read and moving(n)][-4:]
        inside = [n for n in made if n in self.read and moving(n)]
        if found and inside and self.chance(0.25):
            found.insert(self.int(0, len(found)), self.one(inside))
        return [n if self.arrays[n][0].dtype == np.float32 else self.add("Cast", n, to=TensorProto.FLOAT)[0] for n in found]


def drawn(seed, index, table):
    """A graph, and its outputs."""
    for attempt in range(100):
        g = Growing([seed, index, attempt])
        g.stem = g.one(STEMS)
        for _ in range(g.int(1, 2)):
            rank = g.one([1, 2, 3, 4, 4, 4, 5, 6])
            extents = {1: [], 2: [g.int(3, 24)], 3: [g.int(2, 8), g.int(3, 12)], 4: [g.int(1, 6), g.int(3, 8), g.int(3, 8)]}
            extents[6] = [g.int(1, 3) for _ in range(5)]
            first = g.int(2, 9) if rank == 1 else g.int(2, 3) if g.chance(0.1) else 1
            g.add_input([first] + extents.get(rank, [g.int(1, 3), g.int(2, 4), g.int(3, 5), g.int(3, 5)]))
        if g.chance(0.1):
            FORMS["form.tokens"](g) if g.add_tokens([1, g.int(2, 8)]) else None
        wanted, tries = g.int(3, 10), 0
        while len(g.nodes) < wanted and tries < 60:
            tries += 1
            g.grow(table)
        outputs = g.outputs()
        if outputs and all(n in g.read for n in g.inputs):
            return g, outputs
        if outputs and attempt > 20:
            g.inputs = [n for n in g.inputs if n in g.read]
            return g, outputs
    raise SystemExit(f"graph {index} of seed {seed} does not grow")


def samples(arrays):
    """One array of all samples: they stand on axis 0 if it has one element, else on a new one."""
    arrays = [np.asarray(a, dtype=np.float32) for a in arrays]
    join = np.concatenate if arrays[0].shape[:1] == (1,) else np.stack
    return join(arrays)


def ir(opset):
    """The version of the file that an opset needs at least."""
    return 8 if opset < 21 else 10


def write(folder, index, g, outputs, varied=False):
    stem = os.path.join(folder, f"{index:05}")
    describe = lambda n: helper.make_tensor_value_info(n, KINDS[g.arrays[n][0].dtype], g.shape(n))
    nodes, constants, inputs = g.nodes, g.constants, [describe(n) for n in g.inputs]
    if varied and g.chance(0.2):
        # Constants as nodes.
        nodes = [helper.make_node("Constant", [], [c.name], value=c) for c in constants] + nodes
        constants = []
    elif varied and g.chance(0.2):
        # Initialisers as inputs too, as files before IR version 4 have them.
        inputs = inputs + [describe(c.name) for c in constants]
    if varied and g.chance():
        for k, node in enumerate(nodes):
            node.name = f"{g.stem}{node.op_type}_{k}"
    graph = helper.make_graph(nodes, f"graph{index}", inputs, [describe(n) for n in outputs], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", g.opset)], ir_version=ir(g.opset))
    with open(stem + ".onnx", "wb") as file:
        file.write(model.SerializeToString())
    # The whole graph again, as a run of it computes: fewer steps in between are rounded.
    evaluator = ReferenceEvaluator(model)
    wanted = [evaluator.run(None, {n: g.arrays[n][i] for n in g.inputs}) for i in range(CALIBRATION, SAMPLES)]
    for k, n in enumerate(g.inputs):
        np.save(f"{stem}.c{k}.npy", samples(g.arrays[n][:CALIBRATION]))
        np.save(f"{stem}.x{k}.npy", samples(g.arrays[n][CALIBRATION:]))
    for k in range(len(outputs)):
        np.save(f"{stem}.y{k}.npy", samples([w[k] for w in wanted]))
    return {"name": f"{index:05}", "inputs": len(g.inputs), "outputs": len(outputs), "operators": sorted(set(g.operators))}


# What some builders need before them.
PREPARED = dict.fromkeys(["connect", "choose", "Not", "truth_as_real"], ["compare", "compare"])
PREPARED |= dict.fromkeys(["equal", "look_up", "one_hot", "whole_as_real"], ["arg"])
# Graphs of a family, and attempts to draw them.
ALIKE, ATTEMPTS = 4, 24


def each(folder):
    """Graphs of one family of operators each."""
    cases = []
    for number, (name, build) in enumerate(TABLE.items()):
        drawn = 0
        for attempt in range(ATTEMPTS):
            if drawn == ALIKE:
                break
            g = Growing([number, attempt])
            g.opset = EACH_OPSETS[attempt % 2]
            g.add_input([1, 4, 6, 4])
            if attempt % 3 == 2:
                g.add_input([1, 6, 8])
            try:
                for before in PREPARED.get(name, []):
                    TABLE[before](g)
                build(g)
                main = g.nodes[-1].op_type
                outputs = g.outputs()
            except Unsuitable:
                continue
            g.inputs = [n for n in g.inputs if n in g.read]
            if outputs and g.inputs:
                cases.append(write(folder, len(cases), g, outputs) | {"main": main})
                drawn += 1
    return cases


def routed(folder):
    """The networks of routing.py, each for two opsets."""
    cases = []
    for number, build in enumerate(NETWORKS):
        for opset in (13, 17):
            for attempt in range(20 * ATTEMPTS):
                g = Growing([7, number, attempt])
                g.opset = opset
                try:
                    build(g)
                    outputs = g.outputs()
                except Unsuitable:
                    continue
                cases.append(write(folder, len(cases), g, outputs) | {"main": build.__name__})
                break
            else:
                raise SystemExit(f"{build.__name__} does not grow")
    return cases


def digest():
    """Of these scripts: others draw other graphs."""
    here = os.path.dirname(os.path.abspath(__file__))
    texts = [open(os.path.join(here, n), "rb").read() for n in sorted(os.listdir(here)) if n.startswith(("graph", "routing"))]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:8]


def main():
    families = {"each": each, "routing": routed}
    if sys.argv[2] in families:
        folder = os.path.join(sys.argv[1], f"onnx-{onnx.__version__}-{sys.argv[2]}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "cases.json"), "w", encoding="utf-8") as file:
            json.dump(families[sys.argv[2]](folder), file, indent=0)
        print(folder)
        return
    count, seed = int(sys.argv[2]), int(sys.argv[3])
    folder = os.path.join(sys.argv[1], f"onnx-{onnx.__version__}-{digest()}-{seed}")
    os.makedirs(folder, exist_ok=True)
    index = os.path.join(folder, "cases.json")
    cases = json.load(open(index, encoding="utf-8")) if os.path.exists(index) else []
    for i in range(len(cases), count):
        cases.append(write(folder, i, *drawn(seed, i, TABLE | FORMS), varied=True))
        # Someone may stop it: what is there is kept.
        if len(cases) == count or len(cases) % 50 == 0:
            with open(index + ".new", "w", encoding="utf-8") as file:
                json.dump(cases, file, indent=0)
            os.replace(index + ".new", index)
    used = collections.Counter(o for case in cases for o in case["operators"])
    print(len(used), "operators:", *(f"{o} {n}" for o, n in sorted(used.items())), file=sys.stderr)
    print(folder)


if __name__ == "__main__":
    main()
