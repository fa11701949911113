"""Compiles networks of many architectures, exported by PyTorch, and compares them with ONNX Runtime.

usage: architectures.py OFFSHOOT FOLDER [--public] [--float] [--opset N]... [--dynamic] [WORD]...

Without --public: small networks, one for each method of the files beside this one, with 24 samples for calibration and 8 compared. With --public: definitions of torchvision and timm with seeded random weights, with 4
samples of noise for calibration and 2 compared; int8 need only compile and run. WORD: only networks whose name contains it.
--float leaves out int8, --opset exports at these opsets (17), --dynamic with a symbolic batch.
A network is whole with 80 dB in float32 and 20 dB in int8 (`BELOW`: four have less). Exit code: networks that are not whole (at most 99).
"""

import argparse
import json
import math
import os
import subprocess
import sys
import warnings

warnings.simplefilter("ignore")
try:
    import numpy as np
    import onnxruntime
    import torch
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(0)

LEAST = {"f32": 80.0, "int8": 20.0}
# Networks below 20 dB in int8 on these samples: what they decide between is nearer than a step of their inputs' int8, or cancels.
BELOW = {"AdaptiveLIFStep": 6.0, "TsetlinClauses": 16.0, "CRFViterbi": 17.0, "DeepKernelGP": 18.5}


def decibels(wanted, got):
    wanted, got = (np.asarray(a, dtype=np.float64).ravel() for a in (wanted, got))
    if wanted.shape != got.shape:
        return -999.0
    noise, signal = ((wanted - got) ** 2).sum(), (wanted**2).sum()
    if noise == 0:
        return 200.0
    return 10 * math.log10(signal / noise) if signal > 0 and np.isfinite(noise) else -100.0


def export(network, inputs, path, opset, dynamic):
    names = [f"x{i}" for i in range(len(inputs))]
    axes = {"dynamic_axes": {name: {0: "batch"} for name in names}} if dynamic else {}
    # With gradients: without, PyTorch takes a form of attention that it cannot export.
    torch.onnx.export(network, tuple(inputs), path, opset_version=opset, input_names=names, **axes)


def answers(path, samples, first):
    """Outputs of ONNX Runtime for each sample from `first` on, without its optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    runs = [session.run(None, {n: x[k : k + 1] for n, x in zip(names, samples)}) for k in range(first, len(samples[0]))]
    return [np.stack([run[i] for run in runs]) for i in range(len(runs[0]))]


def compared(offshoot, folder, samples, first, wanted, form):
    """The lowest ratio of the outputs in dB, or why there is none."""
    files = lambda kind: [f"{folder}/{kind}{i}.npy" for i in range(len(samples))]
    for calibration, test, x in zip(files("c"), files("t"), samples):
        np.save(calibration, x[:first])
        np.save(test, x[first:])
    how = ["--precision", "f32"] if form == "f32" else [a for f in files("c") for a in ("--calib", f)] + ["--allow-poor"]
    outputs = [f"{folder}/y{i}.npy" for i in range(len(wanted))]
    given = [a for f in files("t") for a in ("--input", f)] + [a for f in outputs for a in ("--output", f)]
    for command in (
        [offshoot, "compile", f"{folder}/m.onnx", "-o", f"{folder}/m.off", *how],
        [offshoot, "run", f"{folder}/m.off", *given, "--real"],
    ):
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=900)
        except subprocess.TimeoutExpired:
            return f"{command[1]}: no answer in 900 s"
        if run.returncode:
            return f"{command[1]}: " + " ".join((run.stderr or run.stdout).split())[:300]
    return min(decibels(w, np.load(o)) for w, o in zip(wanted, outputs))


def small(name):
    """A small network, and its samples."""
    from architecture import ALL, with_statistics

    network, shapes, tokens = ALL[name]
    torch.manual_seed(5)
    network = with_statistics(network().eval())
    random = np.random.default_rng(7)
    draw = lambda i, shape: (
        random.integers(0, tokens[i], (32, *shape)) if i in tokens else random.standard_normal((32, *shape)).astype(np.float32)
    )
    return network, [draw(i, shape) for i, shape in enumerate(shapes)], 24


def public(make):
    from public import Whole, drawn

    torch.manual_seed(1)
    network, shape = make()
    samples = np.random.default_rng(3).standard_normal((6, *shape)).astype(np.float32)
    return Whole(drawn(network)).eval(), [samples], 4


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("offshoot")
    parser.add_argument("folder")
    parser.add_argument("words", nargs="*")
    for flag in ("--public", "--float", "--dynamic"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--opset", type=int, action="append")
    args = parser.parse_intermixed_args()
    if args.public:
        from public import PUBLIC

        networks = {name: lambda make=make: public(make) for name, make in PUBLIC}
        least = {"f32": LEAST["f32"], "int8": -math.inf}
    else:
        import cells, functions, inference, memories, scenes, sequences, tables, vision  # noqa: E401, F401, they enter their networks
        from architecture import ALL

        networks = {name: lambda name=name: small(name) for name in ALL}
        least = LEAST
    failed, run, results = 0, 0, {}
    for name, make in networks.items():
        if args.words and not any(w.lower() in name.lower() for w in args.words):
            continue
        for opset in args.opset or [17]:
            folder = os.path.join(args.folder, f"{name}-{opset}")
            os.makedirs(folder, exist_ok=True)
            network, samples, first = make()
            try:
                export(network, [torch.from_numpy(x[:1]) for x in samples], f"{folder}/m.onnx", opset, args.dynamic)
            except Exception as error:  # PyTorch raises many kinds
                print(f"-- {name} (opset {opset}): PyTorch does not export it: {str(error).splitlines()[0][:120]}", flush=True)
                continue
            wanted = answers(f"{folder}/m.onnx", samples, first)
            forms = ["f32"] if args.float else ["f32", "int8"]
            found = {form: compared(args.offshoot, folder, samples, first, wanted, form) for form in forms}
            bounds = dict(least, int8=min(least["int8"], BELOW.get(name, math.inf)))
            whole = all(isinstance(v, float) and v >= bounds[form] for form, v in found.items())
            show = lambda v: f"{v:.1f} dB" if isinstance(v, float) else v
            text = ", ".join(f"{form} {show(v)}" for form, v in found.items())
            print(f"{'ok' if whole else 'NO'} {name} (opset {opset}): {text}", flush=True)
            run, failed = run + 1, failed + (not whole)
            results[f"{name}-{opset}"] = found
    with open(os.path.join(args.folder, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=0)
    print(f"{run - failed} of {run} networks are whole")
    return min(failed, 99)


if __name__ == "__main__":
    sys.exit(main())
