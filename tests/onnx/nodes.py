"""Writes the ONNX standard's node tests that suit inference in float32, for tests/tests/onnx_nodes.rs.

usage: onnx_nodes.py FOLDER

The package `onnx` makes the tests; its version is the name of the subfolder. `cases.json` there lists them. A test comes in up to
three forms, since a network has its parameters as constants, while these tests pass everything as inputs:
  free    as the standard has it
  frozen  inputs that are not float32 are constants
  first   all inputs but the first float32 one are constants
Prints the subfolder. Exit code 3: the package is not there.
"""

import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
try:
    import numpy
    import onnx
    from onnx import TensorProto, numpy_helper
    from onnx.backend.test.loader import load_model_tests
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(3)

# What a device does not do at inference, by operator: random numbers, training, text, images, lists.
UNSUITABLE = {
    "Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "ImageDecoder",
    "StringNormalizer", "RegexFullMatch", "TfIdfVectorizer", "SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss", "Unique",
    "NonZero", "NonMaxSuppression",
}
KINDS = {TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT32, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8}
REAL = {TensorProto.FLOAT, TensorProto.BOOL}


def kinds(values):
    return [v.type.tensor_type.elem_type if v.type.WhichOneof("value") == "tensor_type" else None for v in values]


def plain(model):
    """Whether a test suits: tensors of usual types only, and a real number or truth value among inputs and outputs."""
    if any(o.domain not in ("", "ai.onnx") for o in model.opset_import):
        return False
    if any(n.op_type in UNSUITABLE for n in model.graph.node):
        return False
    found = kinds(model.graph.input), kinds(model.graph.output)
    return all(k in KINDS for k in found[0] + found[1]) and any(k in REAL for k in found[0]) and any(k in REAL for k in found[1])


def frozen(model, inputs, keep):
    """The model with all inputs constant for which `keep` does not hold, and the other inputs' arrays."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.input[:]
    rest = []
    for i, (value, array) in enumerate(zip(model.graph.input, inputs)):
        if keep(i, value):
            changed.graph.input.append(value)
            rest.append(array)
        else:
            changed.graph.initializer.append(numpy_helper.from_array(numpy.asarray(array), value.name))
    return changed, rest


def forms(model, inputs):
    reals = [i for i, k in enumerate(kinds(model.graph.input)) if k == TensorProto.FLOAT]
    yield "free", model, list(inputs)
    if reals and len(reals) < len(model.graph.input):
        yield "frozen", *frozen(model, inputs, lambda i, _: i in reals)
    if len(reals) > 1:
        yield "first", *frozen(model, inputs, lambda i, _: i == reals[0])


def save(folder, name, array):
    path = name + ".npy"
    array = numpy.asarray(array)
    if array.dtype == numpy.bool_:
        array = array.astype(numpy.uint8)
    numpy.save(os.path.join(folder, path), numpy.ascontiguousarray(array).reshape(array.shape))
    return path


def main():
    folder = os.path.join(sys.argv[1], "onnx-" + onnx.__version__)
    index = os.path.join(folder, "cases.json")
    if not os.path.exists(index):
        os.makedirs(folder, exist_ok=True)
        cases = []
        for case in load_model_tests(kind="node"):
            # Tests with several data sets, or without a model in memory, are not node tests.
            if case.model is None or not case.data_sets or not plain(case.model):
                continue
            inputs, outputs = case.data_sets[0]
            if any(isinstance(a, (list, dict)) or a is None for a in list(inputs) + list(outputs)):
                continue
            if len(inputs) != len(case.model.graph.input):
                continue
            name = case.name.removeprefix("test_")
            written = []
            for form, model, rest in forms(case.model, inputs):
                path = f"{name}.{form}.onnx"
                with open(os.path.join(folder, path), "wb") as file:
                    file.write(model.SerializeToString())
                arrays = [save(folder, f"{name}.{form}.x{i}", a) for i, a in enumerate(rest)]
                written.append({"form": form, "model": path, "inputs": arrays})
            wanted = [save(folder, f"{name}.y{i}", a) for i, a in enumerate(outputs)]
            operators = [n.op_type for n in case.model.graph.node]
            cases.append({"name": name, "operator": operators[0], "forms": written, "outputs": wanted,
                          "relative": case.rtol, "absolute": case.atol})
        temporary = index + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(cases, file, indent=0)
        os.replace(temporary, index)
    print(folder)


main()
