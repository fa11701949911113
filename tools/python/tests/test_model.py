"""Compile, open, run, eval: the command line's bytes, ONNX Runtime's numbers."""

import pickle
import threading
import warnings

import numpy as np
import offshoot
import pytest
from offshoot import errors


def test_compiled_files_and_outputs_are_the_command_lines(vibration, model, command, tmp_path):
    off, out = tmp_path / "m.off", tmp_path / "y.npy"
    said = command("compile", vibration.onnx, "--calib", vibration.path("calibration_x"), "-o", off)
    assert off.read_bytes() == model.to_bytes()
    said.pop("output")
    assert said == dict(model.report)
    command("run", off, "--input", vibration.path("test_x"), "-o", out)
    codes = model.run(vibration.test_x, real=False)
    assert codes.dtype == np.int8
    np.testing.assert_array_equal(codes, np.load(out))
    command("run", off, "--input", vibration.path("test_x"), "-o", out, "--real")
    real = model.run(vibration.test_x)
    assert real.tobytes() == np.load(out).tobytes()
    # One by one, in the engine that stays open.
    alone = np.concatenate([model.run(x) for x in vibration.test_x[:50]])
    np.testing.assert_array_equal(alone, real[:50])
    said = command("eval", off, "--input", vibration.path("test_x"), "--labels", vibration.path("test_y"))
    assert said == dict(model.eval(vibration.test_x, vibration.test_y))
    said = command("inspect", off)
    said.pop("file")
    found = dict(offshoot.open(off).inspect())
    assert found.pop("file") == str(off)
    assert said == found


def test_a_saved_model_opens(model, vibration, tmp_path):
    path = model.save(tmp_path / "saved.off")
    again = offshoot.open(path)
    assert again.to_bytes() == model.to_bytes() == offshoot.open(model.to_bytes()).to_bytes()
    np.testing.assert_array_equal(again(vibration.test_x), model(vibration.test_x))
    unpickled = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(unpickled(vibration.test_x), model(vibration.test_x))


def test_a_float_model_gives_onnx_runtimes_numbers(vibration):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(vibration.onnx, providers=["CPUExecutionProvider"])
    name, x = session.get_inputs()[0].name, vibration.test_x.astype(np.float32)
    shape = [1 if not isinstance(n, int) else n for n in session.get_inputs()[0].shape]
    want = np.concatenate([session.run(None, {name: one.reshape(shape)})[0] for one in x])
    got = offshoot.compile(vibration.onnx, precision="f32").run(x)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-4, atol=1e-4)


def test_networks_in_memory_compile_to_the_same_file(vibration, model):
    data = open(vibration.onnx, "rb").read()
    assert offshoot.compile(data, vibration.calibration_x).to_bytes() == model.to_bytes()
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(vibration.onnx)
    assert offshoot.compile(proto, vibration.calibration_x).to_bytes() == model.to_bytes()


def test_a_torch_module_compiles():
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 3)
    )
    x = np.random.default_rng(1).normal(size=(64, 1, 8, 8)).astype(np.float32)
    want = module(torch.from_numpy(x)).detach().numpy()
    exact = offshoot.compile(module, precision="f32", example=x[:1])
    np.testing.assert_allclose(exact.run(x), want, rtol=1e-4, atol=1e-5)
    model = offshoot.compile(module, x)
    assert np.mean(np.argmax(model.run(x), 1) == np.argmax(want, 1)) > 0.9
    with pytest.raises(errors.UsageError, match="example="):
        offshoot.compile(module, precision="f32")


def test_arrays_of_any_layout_and_type(model, vibration):
    x = vibration.test_x[:8].astype(np.float32)
    want = model.run(x)
    for same in (
        x.astype(np.float64),
        np.asfortranarray(x),
        np.repeat(x, 2, axis=0)[::2],
        x.astype(">f4"),
        x.tolist(),
        x.astype(np.float16) if np.array_equal(x.astype(np.float16), x) else x,
    ):
        np.testing.assert_array_equal(model.run(same), want)
    want[:] = 0  # Outputs belong to the caller.
    assert model.run(x).any()


def test_errors_have_the_command_lines_texts(vibration, model, command, tmp_path):
    def refused(kind, *words):
        said = command(*words)["error"]
        assert said["kind"] == kind.kind
        return said

    off = model.save(tmp_path / "m.off")
    with pytest.raises(errors.NotFoundError) as caught:
        offshoot.open(tmp_path / "none.off")
    said = refused(errors.NotFoundError, "inspect", tmp_path / "none.off")
    assert (caught.value.message, caught.value.help) == (said["message"], said["help"])
    assert isinstance(caught.value, FileNotFoundError) and isinstance(caught.value, offshoot.OffshootError)

    with pytest.raises(errors.ShapeError, match="shape") as caught:
        model.run(np.zeros((3, 5), np.float32))
    assert isinstance(caught.value, ValueError) and "help" in str(caught.value)
    with pytest.raises(errors.CalibrationError, match="needs calibration samples"):
        offshoot.compile(vibration.onnx)
    with pytest.raises(errors.BudgetError):
        offshoot.compile(vibration.onnx, vibration.calibration_x, max_flash="1k")
    with pytest.raises(errors.UsageError, match="precision"):
        offshoot.compile(vibration.onnx, vibration.calibration_x, precision="int3")
    with pytest.raises(errors.UsageError, match="no-such-option"):
        offshoot.compile(vibration.onnx, vibration.calibration_x, no_such_option=1)
    with pytest.raises(errors.UsageError, match="not signed"):
        offshoot.compile(vibration.onnx, vibration.calibration_x, sign="key.pem", release=1)
    with pytest.raises(errors.FormatError):
        offshoot.open(b"not a model")
    with pytest.raises(errors.FormatError):
        offshoot.compile(b"not a network", precision="f32")
    with pytest.raises(errors.DeviceError, match="no-such-board"):
        model.run(vibration.test_x, target="qemu:no-such-board")
    with pytest.raises(errors.DtypeError):
        model.run(np.zeros(3, complex))
    with pytest.raises(errors.CalibrationError, match="nan|NaN"):
        model.run(np.full(vibration.test_x.shape[1:], np.nan, np.float32))
    with pytest.raises(errors.IoError, match="cannot write"):
        model.save(tmp_path / "no" / "folder.off")
    assert offshoot.open(off).to_bytes() == model.to_bytes()


def test_damaged_files_raise_and_never_crash(model):
    data, rng = bytearray(model.to_bytes()), np.random.default_rng(1)
    opened = 0
    for _ in range(300):
        bad = data.copy()
        for at in rng.integers(0, len(bad), 3):
            bad[at] = int(rng.integers(256))
        try:
            offshoot.open(bytes(bad[: int(rng.integers(1, len(bad) + 1))]))
            opened += 1
        except offshoot.OffshootError:
            pass
    assert opened < 300


def test_saturation_is_a_warning(model, vibration):
    with pytest.warns(errors.SaturationWarning, match="saturate"):
        model.run(vibration.test_x[:4].astype(np.float32) * 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.run(vibration.test_x[:4])


def test_threads_share_a_model(model, vibration):
    want = model.run(vibration.test_x[:40])
    got = [None] * 4

    def work(k):
        got[k] = np.concatenate([model.run(x) for x in vibration.test_x[:40]])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for outputs in got:
        np.testing.assert_array_equal(outputs, want)


def recurrent():
    """A GRU that reads one step of three numbers."""
    onnx = pytest.importorskip("onnx")
    helper, rng = onnx.helper, np.random.default_rng(3)
    extents = {"W": (1, 15, 3), "R": (1, 15, 5), "B": (1, 30)}
    constants = [
        onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name) for name, shape in extents.items()
    ]
    ports = [("x", [1, 1, 3]), ("state", [1, 1, 5])]
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in ports]
    node = helper.make_node("GRU", ["x", "W", "R", "B"], ["", "state"], hidden_size=5)
    graph = helper.make_graph([node], "recurrent", ports[:1], ports[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def test_a_stream_goes_on_step_by_step():
    x = np.random.default_rng(4).normal(size=(12, 1, 1, 3)).astype(np.float32)
    model = offshoot.compile(recurrent(), precision="f32", stateful=True)
    whole = model.run(x)
    steps = np.concatenate([model.step(one) for one in x])
    np.testing.assert_array_equal(steps, whole)
    model.reset()
    np.testing.assert_array_equal(model.step(x[0]), whole[:1])
    # A call of `run` is a sequence of its own, and leaves the stream as it is.
    np.testing.assert_array_equal(model.run(x, reset_every=6)[:6], whole[:6])
    np.testing.assert_array_equal(model.step(x[1]), whole[1:2])
    with pytest.raises(errors.ShapeError, match="one sample"):
        model.step(x)


def test_reports_are_dictionaries_tables_and_pages(model):
    assert model.flash_bytes == len(model.to_bytes())
    assert "model (flash)" in str(model.report)
    rows = model.report.records()
    assert rows == model.report.records("operators") and {"name", "kind", "macs"} <= set(rows[0])
    used = model.memory_map()
    assert all(r["offset"] + r["bytes"] <= used["arena_bytes"] for r in used.records())
    assert "█" in str(used)
    for page in (model._repr_html_(), model.report._repr_html_(), used._repr_html_()):
        assert page.count("<table>") == page.count("</table>") > 0


def test_reports_are_tables_of_pandas(model):
    pandas = pytest.importorskip("pandas")
    assert pandas.DataFrame(model.report.records())["macs"].sum() == model.report["macs"]


def test_names_of_a_network_cannot_break_out_of_a_page():
    report = offshoot.Report({"operators": [{"name": "</td><script>"}]}, "")
    assert "<script>" not in report._repr_html_()


def test_targets_are_listed():
    names = [t["name"] for t in offshoot.targets().records()]
    assert "host" in names and "qemu:cortex-m4" in names
    assert any("STM32F411" in t["name"].upper() for t in offshoot.targets(search="stm32f411").records())


def test_a_network_is_inspected(vibration):
    report = offshoot.inspect(vibration.onnx)
    assert report["format"] == "onnx" and report.records("constants")
