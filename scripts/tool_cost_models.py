"""Makes large models with random weights, and samples for them. See tool-cost.sh."""

import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    """Convolutions and the like, one after the other, with He's initial weights."""

    def __init__(self, seed):
        self.random, self.nodes, self.constants = np.random.default_rng(seed), [], []

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def node(self, kind, *inputs, **attributes):
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weights(self, shape, inputs):
        return self.random.standard_normal(shape, dtype=np.float32) * np.sqrt(2 / inputs)

    def conv(self, x, channels, outputs, kernel, stride=1, groups=1):
        shape, at = (outputs, channels // groups, kernel, kernel), len(self.nodes)
        weights = self.constant(f"w{at}", self.weights(shape, np.prod(shape[1:])))
        bias = self.constant(f"b{at}", self.random.standard_normal(outputs) * 0.1)
        return self.node("Conv", x, weights, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2,
                         pads=[kernel // 2] * 4, group=groups)

    def head(self, x, channels):
        flat = self.node("Flatten", self.node("GlobalAveragePool", x))
        weights = self.constant("head", self.weights((channels, 1000), channels))
        return self.node("Gemm", flat, weights, self.constant("head_bias", np.zeros(1000)))

    def save(self, path, shape, result, outputs):
        info = helper.make_tensor_value_info
        graph = helper.make_graph(self.nodes, "network", [info("x", TensorProto.FLOAT, shape)],
                                  [info(result, TensorProto.FLOAT, [1, outputs])], self.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def mobilenet(path):
    n = Network(1)
    low, high = n.constant("low", 0.0), n.constant("high", 6.0)

    def active(*arguments, **options):
        return n.node("Clip", n.conv(*arguments, **options), low, high)

    x, channels = active("x", 3, 32, 3, stride=2), 32
    for factor, outputs, count, first in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                                          (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for i in range(count):
            stride, wide = first if i == 0 else 1, channels * factor
            y = active(x, channels, wide, 1) if factor > 1 else x
            y = n.conv(active(y, wide, wide, 3, stride=stride, groups=wide), wide, outputs, 1)
            x, channels = n.node("Add", x, y) if stride == 1 and channels == outputs else y, outputs
    n.save(path, [1, 3, 224, 224], n.head(active(x, 320, 1280, 1), 1280), 1000)


def resnet(path):
    n = Network(1)
    x = n.node("Relu", n.conv("x", 3, 64, 7, stride=2))
    x, channels = n.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for width, count, first in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for i in range(count):
            stride = first if i == 0 else 1
            y = n.node("Relu", n.conv(x, channels, width, 1))
            y = n.node("Relu", n.conv(y, width, width, 3, stride=stride))
            y = n.conv(y, width, 4 * width, 1)
            x = n.conv(x, channels, 4 * width, 1, stride=stride) if i == 0 else x
            x, channels = n.node("Relu", n.node("Add", y, x)), 4 * width
    n.save(path, [1, 3, 224, 224], n.head(x, 2048), 1000)


def dense(path, inputs, outputs):
    n = Network(0)
    weights = n.constant("w", n.weights((outputs, inputs), inputs))
    y = n.node("Gemm", "x", weights, n.constant("b", n.random.standard_normal(outputs)), transB=1)
    n.save(path, [1, inputs], n.node("Relu", y), outputs)


def main(out):
    at = lambda name: os.path.join(out, name)
    random = np.random.default_rng(2)
    samples = lambda name, *shape: np.save(at(name), random.standard_normal(shape).astype(np.float32))
    mobilenet(at("mobilenet.onnx"))
    samples("images.npy", 8, 3, 224, 224)
    dense(at("dense.onnx"), 1024, 1024)
    samples("rows.npy", 100, 1024)
    resnet(at("resnet50.onnx"))
    dense(at("small.onnx"), 256, 10)
    np.save(at("bytes.npy"), random.integers(0, 256, (100_000, 256), dtype=np.uint8))
    np.save(at("labels.npy"), random.integers(0, 10, 100_000).astype(np.uint8))


if __name__ == "__main__":
    main(*sys.argv[1:])
