"""Quantised exports of one small network, as others write them, and how far their compiled files agree with them.

  quantised_exports.py torch DATA OUT        trains the network (PyTorch), writes it in float, trained with fake quantisation, and
                                             with Brevitas' 8-bit quantisers
  quantised_exports.py onnxruntime DATA OUT  writes ONNX Runtime's quantisation: static (QDQ and QOperator, 4, 8 and 16 bits) and dynamic
  quantised_exports.py compare DATA OUT OFFSHOOT [TARGET]   compiles all, and compares the classes of 2,000 samples
"""

import json
import subprocess
import sys

import numpy as np

SETTINGS = {
    "ort_s8s8": dict(activation="QInt8", weight="QInt8", per_channel=True, asymmetric=False),
    "ort_u8s8": dict(activation="QUInt8", weight="QInt8", per_channel=True, asymmetric=False),
    "ort_u8u8": dict(activation="QUInt8", weight="QUInt8", per_channel=False, asymmetric=True),
    "ort_s8_asymmetric": dict(activation="QInt8", weight="QInt8", per_channel=False, asymmetric=True),
    "ort_s8s8_tensor": dict(activation="QInt8", weight="QInt8", per_channel=False, asymmetric=False),
    "ort_u8s8_reduced": dict(activation="QUInt8", weight="QInt8", per_channel=True, asymmetric=False, reduce_range=True),
    "ort_s8_symmetric": dict(
        activation="QInt8", weight="QInt8", per_channel=True, asymmetric=False, extra=dict(ActivationSymmetric=True)
    ),
    "ort_dedicated": dict(
        activation="QUInt8", weight="QInt8", per_channel=True, asymmetric=False, extra=dict(DedicatedQDQPair=True)
    ),
    "ort_percentile": dict(activation="QInt8", weight="QInt8", per_channel=True, asymmetric=False, method="Percentile"),
    "ort_kept": dict(
        activation="QInt8", weight="QInt8", per_channel=True, asymmetric=False,
        extra=dict(QDQKeepRemovableActivations=True),
    ),
    "ort_s8s4": dict(activation="QInt8", weight="QInt4", per_channel=True, asymmetric=False, opset=21),
    "ort_u8u4": dict(activation="QUInt8", weight="QUInt4", per_channel=False, asymmetric=True, opset=21),
    "ort_s16s8": dict(activation="QInt16", weight="QInt8", per_channel=True, asymmetric=False, opset=21),
    "ort_u16u8": dict(activation="QUInt16", weight="QUInt8", per_channel=False, asymmetric=True, opset=21),
    "ort_s16s4": dict(activation="QInt16", weight="QInt4", per_channel=True, asymmetric=False, opset=21),
    "ort_qoperator_s8s8": dict(
        activation="QInt8", weight="QInt8", per_channel=False, asymmetric=False, format="QOperator"
    ),
    "ort_qoperator_u8u8": dict(
        activation="QUInt8", weight="QUInt8", per_channel=False, asymmetric=True, format="QOperator"
    ),
    "ort_qoperator_u8s8": dict(
        activation="QUInt8", weight="QInt8", per_channel=True, asymmetric=False, format="QOperator"
    ),
}
DYNAMIC = {"ort_dynamic_u8": dict(weight="QUInt8", per_channel=False), "ort_dynamic_s8": dict(weight="QInt8", per_channel=True)}
TORCH = ["torch_qat", "brevitas_w8a8"]
# Without VNNI, ONNX Runtime's own products of uint8 and int8 saturate at 16 bits, so that its answers are not those of the file.
SATURATES = ["ort_qoperator_u8s8"]


def images(data, name, count):
    x = np.load(f"{data}/{name}_x.npy")[:count].astype(np.float32).reshape(-1, 1, 28, 28) / 255
    return (x - 0.1307) / 0.3081, np.load(f"{data}/{name}_y.npy")[:count].astype(np.int64).reshape(-1)


def torch_exports(data, out):
    import torch
    from torch import nn

    torch.manual_seed(0)
    x, y = (torch.from_numpy(a) for a in images(data, "train", 8000))

    def train(net, epochs, rate):
        optimizer = torch.optim.Adam(net.parameters(), rate)
        for _ in range(epochs):
            order = torch.randperm(len(x))
            for at in range(0, len(x), 64):
                part = order[at : at + 64]
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[part]), y[part]).backward()
                optimizer.step()
        return net.eval()

    def export(net, name):
        torch.onnx.export(
            net, x[:1], f"{out}/{name}.onnx", opset_version=13, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )

    def layers():
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 10),
        )

    net = train(layers(), 4, 2e-3)
    export(net, "float")

    from torch.ao import quantization as q

    class Whole(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.before, self.inner, self.after = q.QuantStub(), inner, q.DeQuantStub()

        def forward(self, v):
            return self.after(self.inner(self.before(v)))

    inner = layers()
    inner.load_state_dict(net.state_dict())
    inner = q.fuse_modules_qat(inner.train(), [["0", "1"], ["2", "3"], ["4", "5"]])
    aware = Whole(inner)
    # The default's observers are fused into operators that ONNX lacks.
    aware.qconfig = q.QConfig(
        activation=q.FakeQuantize.with_args(observer=q.MovingAverageMinMaxObserver, quant_min=0, quant_max=255),
        weight=q.FakeQuantize.with_args(
            observer=q.MovingAveragePerChannelMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.qint8,
            qscheme=torch.per_channel_symmetric, ch_axis=0,
        ),
    )
    aware = train(q.prepare_qat(aware.train()), 1, 2e-4)
    aware.apply(q.disable_observer)
    export(aware, "torch_qat")

    import brevitas.nn as qnn
    from brevitas.export import export_onnx_qcdq
    from brevitas.quant import Int8ActPerTensorFloat, Int32Bias

    bias = dict(bias_quant=Int32Bias, return_quant_tensor=True)
    inner = nn.Sequential(
        qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, return_quant_tensor=True),
        qnn.QuantConv2d(1, 8, 3, stride=2, padding=1, **bias), qnn.QuantReLU(return_quant_tensor=True),
        qnn.QuantConv2d(8, 16, 3, stride=1, padding=1, **bias), qnn.QuantReLU(return_quant_tensor=True),
        qnn.QuantConv2d(16, 16, 3, stride=2, padding=1, **bias), qnn.QuantReLU(return_quant_tensor=True),
        nn.MaxPool2d(2), nn.Flatten(), qnn.QuantLinear(144, 10, bias=True, bias_quant=Int32Bias),
    )
    inner = train(inner, 3, 2e-3)
    export_onnx_qcdq(inner, args=x[:1], export_path=f"{out}/brevitas_w8a8.onnx", opset_version=13)


def onnxruntime_exports(data, out):
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static,
    )

    x, _ = images(data, "train", 200)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.samples = iter([{"x": x[i : i + 1]} for i in range(len(x))])

        def get_next(self):
            return next(self.samples, None)

    # Types of 4 and 16 bits came with opset 21.
    onnx.save(onnx.version_converter.convert_version(onnx.load(f"{out}/float.onnx"), 21), f"{out}/float_21.onnx")
    for name, s in SETTINGS.items():
        quantize_static(
            f"{out}/float{'_21' if 'opset' in s else ''}.onnx", f"{out}/{name}.onnx", Reader(),
            quant_format=QuantFormat[s.get("format", "QDQ")],
            activation_type=QuantType[s["activation"]], weight_type=QuantType[s["weight"]],
            per_channel=s["per_channel"], reduce_range=s.get("reduce_range", False),
            calibrate_method=CalibrationMethod[s.get("method", "MinMax")],
            extra_options={"WeightSymmetric": not s["asymmetric"], **s.get("extra", {})},
        )
    for name, s in DYNAMIC.items():
        quantize_dynamic(
            f"{out}/float.onnx", f"{out}/{name}.onnx", weight_type=QuantType[s["weight"]], per_channel=s["per_channel"]
        )


def compare(data, out, offshoot, target="qemu:cortex-m4"):
    import os

    import onnxruntime

    x, y = images(data, "test", 2000)
    np.save(f"{out}/x.npy", x)
    np.save(f"{out}/c.npy", images(data, "train", 100)[0])
    worst = 1.0
    print(f"{'export':20} {'classes as source':>18} {'source right':>13} {'file right':>11} {'bytes':>8} {'instructions':>13}  in float32")
    for name in [*SETTINGS, *DYNAMIC, *TORCH]:
        model, off, got = f"{out}/{name}.onnx", f"{out}/{name}.off", f"{out}/{name}.npy"
        if not os.path.exists(model):
            print(f"{name:20} is missing")
            continue
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Optimised, ONNX Runtime computes some float products of weights in 4 bits on int8.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = session.get_inputs()[0].name
        want = np.concatenate([session.run(None, {feed: x[i : i + 1]})[0].reshape(1, -1) for i in range(len(x))])
        run = lambda *a: subprocess.run([offshoot, *a], check=True, capture_output=True, text=True).stdout
        # Those of 16 bits have all of their scales.
        calibration = [] if SETTINGS.get(name, {}).get("activation", "").endswith("16") else ["--calib", f"{out}/c.npy"]
        report = json.loads(run("compile", model, "-o", off, *calibration, "--json"))
        run("run", off, "--input", f"{out}/x.npy", "-o", got, "--real")
        classes = np.load(got).reshape(len(x), -1).argmax(1)
        # Where the source's best classes are equal, any of them is its answer.
        agree = (want[np.arange(len(x)), classes] == want.max(1)).mean()
        worst = min(worst, 1.0 if name in SATURATES else agree)
        profile = json.loads(run("profile", off, "--target", target, "--json"))
        instructions = profile.get("total_cost") or profile.get("instructions") or sum(o["cost"] for o in profile["operators"])
        # A network that stays float32 as a whole falls back nowhere.
        whole = "all operators" if report["precision"] == "f32" else None
        kept = whole or ", ".join(f"{f['operator']} {f['node']}" for f in report["fallbacks"])
        print(
            f"{name:20} {agree:18.4%} {(want.argmax(1) == y).mean():13.2%} {(classes == y).mean():11.2%} "
            f"{report['model_bytes']:8,} {instructions:13,}  {kept or '-'}", flush=True,
        )
    return bool(worst >= 0.995)


if __name__ == "__main__":
    stages = {"torch": torch_exports, "onnxruntime": onnxruntime_exports, "compare": compare}
    if len(sys.argv) < 4 or sys.argv[1] not in stages:
        sys.exit(__doc__)
    sys.exit(0 if stages[sys.argv[1]](*sys.argv[2:]) is not False else 1)
