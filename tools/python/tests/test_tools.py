"""Long work: results, progress, and Ctrl-C."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import offshoot
import pytest
from offshoot import errors


@pytest.fixture(scope="module")
def samples(vibration):
    return vibration.shifted_train_x, vibration.shifted_train_y


def test_compress_meets_a_budget(vibration, samples, command, tmp_path):
    seen = []
    made = offshoot.compress(
        vibration.onnx, *samples, max_flash="80%", seed=3, progress=lambda *step: seen.append(step)
    )
    assert made.model.flash_bytes <= made.report["limits"]["flash"]
    assert seen and all(isinstance(what, str) and done <= max(total, done) for what, done, total in seen)
    said = command(
        *("compress", vibration.onnx, "--data", vibration.path("shifted_train_x"), vibration.path("shifted_train_y")),
        *("--max-flash", "80%", "--seed", 3, "-o", tmp_path),
    )
    said.pop("output")
    assert said == dict(made.report)
    assert (tmp_path / "model.off").read_bytes() == made.model.to_bytes()
    assert (tmp_path / "model.onnx").read_bytes() == made.onnx and made.policy
    with pytest.raises(errors.UsageError, match="no budget"):
        offshoot.compress(vibration.onnx, *samples)


def test_qat_and_sensitivity(vibration, samples, tmp_path):
    made = offshoot.qat(vibration.onnx, *samples, epochs=1, output=tmp_path / "few", held_out=30, calibration=30)
    assert made.model.flash_bytes == made.report["after"]["flash"]
    assert (tmp_path / "few" / "policy.toml").is_file()
    policy = tmp_path / "policy.toml"
    report = offshoot.sensitivity(vibration.onnx, *samples, max_flash="95%", output=policy, held_out=30)
    assert report.records("trials") and policy.is_file()
    small = offshoot.compile(vibration.onnx, vibration.calibration_x, precision=str(policy))
    assert small.flash_bytes == report["result"]["bytes"]


SPACE = """
family = "ds-cnn"
[network]
input = [8, 8, 1]
classes = 4
stem = 12
stem_kernel = [3, 3]
widths = [12]
blocks = [2]
[elastic]
width = [0.34, 0.67, 1.0]
depth = true
bits = [2, 4, 8]
[training]
epochs = 4
batch = 32
rate = 1e-2
"""


def stripes():
    """Images of stripes across, stripes along, squares, and noise alone."""
    y = np.arange(200) % 4
    h, w = np.indices((8, 8))
    signs = np.stack([np.where(n % 2 == 0, 0.6, -0.6) for n in (h, w, h + w)] + [np.zeros((8, 8))])
    x = signs[y] + np.random.default_rng(7).uniform(-0.5, 0.5, (200, 8, 8))
    return x[..., None].astype(np.float32), y


def test_a_search_that_was_stopped_goes_on(tmp_path):
    space, out = tmp_path / "space.toml", tmp_path / "out"
    space.write_text(SPACE)
    arguments = dict(output=out, objectives="accuracy,flash", evaluations=12, strategy="random")

    def progress(what, done, total):
        if what == "evaluating" and done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        offshoot.search(space, *stripes(), progress=progress, **arguments)
    before = len((out / "evaluations.jsonl").read_text().splitlines())
    assert 2 <= before < 12
    report = offshoot.search(space, *stripes(), **arguments)
    assert report["evaluations"] == 12 and report["evaluated"] <= 12 - before
    first = report.records("front")[0]
    assert offshoot.open(f"{first['folder']}/model.off").flash_bytes == first["measured"]["flash"]
    with pytest.raises(errors.UsageError, match="executor"):
        offshoot.search(space, *stripes(), executor="slurm", **arguments)


def test_a_mistake_in_a_callback_ends_the_work(vibration, samples):
    def progress(what, done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        offshoot.compress(vibration.onnx, *samples, max_flash="60%", epochs=10_000, progress=progress)


WORK = """
    import numpy as np, offshoot, sys
    x, y = np.load(sys.argv[2]), np.load(sys.argv[3])
    def progress(what, done, total):
        if what == "fine-tuning" or done > 5:
            print("working", flush=True)
    try:
        offshoot.compress(sys.argv[1], x, y, max_flash="70%", epochs=100_000, progress=progress)
    except KeyboardInterrupt:
        # The interpreter goes on.
        print("stopped", offshoot.targets().records()[0]["name"], flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_control_c_stops_the_work(vibration):
    words = [vibration.onnx, vibration.path("shifted_train_x"), vibration.path("shifted_train_y")]
    # A shell's background job ignores SIGINT, and so would its children.
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-c", textwrap.dedent(WORK), *words]
    work = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed)
    assert work.stdout.readline() == "working\n"
    work.send_signal(signal.SIGINT)
    start = time.monotonic()
    said = work.communicate(timeout=60)[0]
    assert said.endswith("stopped host\n") and work.returncode == 0
    assert time.monotonic() - start < 30


def test_other_threads_run_meanwhile(vibration, samples):
    done, counted = threading.Event(), []

    def count():
        while not done.is_set():
            counted.append(1)
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    start = time.monotonic()
    offshoot.compress(vibration.onnx, *samples, max_flash="80%")
    took = time.monotonic() - start
    done.set()
    thread.join()
    assert len(counted) > 20 * took


def forked(model, x, answers):
    answers.put(model.run(x[:1]).tobytes())
    try:
        answers.put(model.run(x))
    except errors.UsageError as error:
        answers.put(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_ever(model, vibration):
    x = vibration.test_x
    want = model.run(x)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=forked, args=(model, x, answers))
    process.start()
    assert answers.get(timeout=60) == want[:1].tobytes()
    assert "spawn" in answers.get(timeout=60)
    process.join(60)
    assert process.exitcode == 0


def test_options_are_the_command_lines():
    from offshoot._options import line

    assert line({"max_flash": "50%", "mix": True, "plan": None, "test": False}) == ["--max-flash=50%", "--mix"]
    assert line({"keep": ["a", "b"], "ratio": {"c=d": 0.5}}) == ["--keep=a", "--keep=b", "--ratio=c=d=0.5"]
