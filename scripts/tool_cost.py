"""Measures the tool on the models of tool_cost_models.py. See tool-cost.sh.

A program of its own: the peak memory of a child counts from that of the process that starts it.
"""

import os
import subprocess
import sys

RUNS = 3


def run(*command):
    """Seconds of user time and peak memory in bytes."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(command)}: {message.decode()}")
    return usage.ru_utime, usage.ru_maxrss * 1024


def main(out, offshoot):
    at = lambda name: os.path.join(out, name)
    for name, calib in [("mobilenet", "images.npy"), ("dense", "rows.npy")]:
        command = [offshoot, "compile", at(f"{name}.onnx"), "--calib", at(calib), "-o", at(f"{name}.off")]
        print(f"{name}: quantised in {min(run(*command)[0] for _ in range(RUNS)):.2f} s of CPU")
    run(offshoot, "compile", at("small.onnx"), "--precision", "f32", "-o", at("small.off"))
    failed = False
    for most, file, command in [
        (3, "resnet50.onnx", ["compile", at("resnet50.onnx"), "--precision", "f32", "-o", at("resnet50.off")]),
        (2, "bytes.npy", ["eval", at("small.off"), "--input", at("bytes.npy"), "--labels", at("labels.npy")]),
    ]:
        peak, size = run(offshoot, *command)[1], os.path.getsize(at(file))
        times = f"{peak / size:.2f} times its size, at most {most}"
        print(f"{command[0]}, {file} of {size / 1e6:.1f} MB: peak {peak / 1e6:.1f} MB, {times}")
        failed = failed or peak > most * size
    sys.exit(failed)


if __name__ == "__main__":
    main(*sys.argv[1:])
