"""Side by side on this machine: Offshoot, ONNX Runtime's CPU provider and tract, one int8 network over the same images.

Called by host-speed.sh. Every measurement is a process of its own; they take turns, so that a change of the machine's load
meets all. Wall-clock time of the inference alone, and user time of the process beside it (less that of a process that
runs one image), which a shared machine disturbs less.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def worker(engine, model, images, threads):
    """Runs one peer; prints seconds of wall-clock time and the predicted classes."""
    x = np.load(images, mmap_mode="r")
    shape = [1, *x.shape[1:]]
    if engine == "onnxruntime":
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1

        def make():
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            name = session.get_inputs()[0].name
            return lambda image: session.run(None, {name: image})[0]

    else:
        import tract

        def make():
            loaded = tract.onnx().load(model)
            loaded.set_input_fact(0, ",".join(map(str, shape)) + ",i8")
            runnable = loaded.into_model().into_runnable()
            return lambda image: runnable.run([image])[0].to_numpy()

    x = np.ascontiguousarray(x)
    parts = np.array_split(np.arange(len(x)), threads)
    runners = [make() for _ in parts]

    def run(part, runner):
        return [runner(x[i : i + 1]).argmax() for i in part]

    start = time.perf_counter()
    # Both libraries let go of the interpreter while they compute.
    with ThreadPoolExecutor(threads) as pool:
        classes = [c for done in pool.map(run, parts, runners) for c in done]
    print(json.dumps({"seconds": time.perf_counter() - start, "classes": [int(c) for c in classes]}))


def child(command):
    """Output and user seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return out, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def measure(engine, a, images, raw, threads, outputs):
    """Wall seconds, user seconds, predicted classes."""
    if engine == "offshoot":
        out, user = child([a.throughput, a.off, raw, str(threads), outputs])
        result = np.fromfile(outputs, np.int8)
        return float(out), user, result.reshape(-1, a.classes).argmax(1)
    out, user = child([sys.executable, __file__, "--worker", engine, a.onnx, images, str(threads)])
    result = json.loads(out)
    return result["seconds"], user, np.array(result["classes"])


def main():
    p = argparse.ArgumentParser()
    for name in ("throughput", "off", "onnx", "images", "labels", "json"):
        p.add_argument(f"--{name}", required=True)
    p.add_argument("--count", type=int, default=10000)
    p.add_argument("--repetitions", type=int, default=5)
    p.add_argument("--classes", type=int, default=10)
    a = p.parse_args()
    import onnxruntime
    import tract

    x = np.load(a.images)[: a.count]
    y = np.load(a.labels)[: a.count].reshape(-1)
    if x.dtype == np.uint8:
        x = (x.astype(np.int16) - 128).astype(np.int8)
    engines = ["offshoot", "onnxruntime", "tract"]
    cores = len(os.sched_getaffinity(0))
    rows = []
    with tempfile.TemporaryDirectory() as work:
        paths = {}
        for name, data in (("all", x), ("one", x[:1])):
            np.save(f"{work}/{name}.npy", data)
            data.tofile(f"{work}/{name}.raw")
            paths[name] = (f"{work}/{name}.npy", f"{work}/{name}.raw")
        outputs = f"{work}/outputs"
        for threads in sorted({1, cores}):
            samples = {e: [] for e in engines}
            accuracy = {}
            for _ in range(a.repetitions):
                for e in engines:
                    idle = measure(e, a, *paths["one"], threads, outputs)[1]
                    wall, user, classes = measure(e, a, *paths["all"], threads, outputs)
                    samples[e].append((wall, user - idle))
                    accuracy[e] = float((classes == y).mean())
                    print(f"{e} {threads} thread(s): {wall:.2f} s wall, {user - idle:.2f} s user", file=sys.stderr)
            for e in engines:
                wall, user = ([s[i] / len(x) * 1e6 for s in samples[e]] for i in (0, 1))
                rows.append({
                    "engine": e, "threads": threads, "top1": accuracy[e],
                    "wall_us": statistics.median(wall), "wall_us_range": [min(wall), max(wall)],
                    "user_us": statistics.median(user), "user_us_range": [min(user), max(user)],
                })
    report = {
        "images": len(x), "repetitions": a.repetitions, "cores": cores,
        "onnxruntime": onnxruntime.__version__, "tract": tract.version(), "rows": rows,
    }
    with open(a.json, "w") as f:
        json.dump(report, f, indent=1)
    print(f"{len(x)} images, median of {a.repetitions} (least to most), microseconds an image; top-1 beside them")
    print("| engine | threads | wall | user | top-1 |\n|---|---|---|---|---|")
    for r in rows:
        spans = [f"{r[k]:.0f} ({r[k + '_range'][0]:.0f} to {r[k + '_range'][1]:.0f})" for k in ("wall_us", "user_us")]
        print(f"| {r['engine']} | {r['threads']} | {spans[0]} | {spans[1]} | {r['top1'] * 100:.2f} % |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:5], int(sys.argv[5]))
    else:
        main()
