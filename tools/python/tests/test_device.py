"""Profile and verify, on the host and on an emulated board."""

import numpy as np
import offshoot
import pytest
from offshoot import errors


def test_verify_compares_with_float(model, vibration, command, tmp_path):
    report = model.verify(vibration.test_x)
    assert report["equal"] and report["count"] == 4 and report["operators"]
    off = model.save(tmp_path / "m.off")
    said = command("verify", vibration.onnx, off, "--input", vibration.path("test_x"))
    assert said == dict(report)
    assert dict(offshoot.open(off).verify(vibration.test_x, onnx=vibration.onnx)) == said
    with pytest.raises(errors.UsageError, match="onnx="):
        offshoot.open(off).verify(vibration.test_x)


def test_another_network_is_refused(model, glyphs, vibration):
    with pytest.raises(errors.MismatchError, match="not compiled from"):
        model.verify(vibration.test_x, onnx=glyphs.onnx)


def test_profile_on_the_host(model):
    report = model.profile("host")
    assert report["nanoseconds"] > 0 and len(report.records()) == len(model.report["operators"])


def test_the_emulated_board_gives_the_same_bits(model, vibration, emulated, command, tmp_path):
    x = vibration.test_x[:3]
    np.testing.assert_array_equal(model.run(x, target="qemu:cortex-m4"), model.run(x))
    report = model.profile("qemu:cortex-m4")
    assert report["instructions"] > 0
    off = model.save(tmp_path / "m.off")
    said = command("profile", off, "--target", "qemu:cortex-m4", "--onnx", vibration.onnx)
    assert said == dict(report)
    assert model.verify(x, target="qemu:cortex-m4", limit=1)["equal"]


def test_a_missing_emulator_is_named(model, monkeypatch, tmp_path):
    monkeypatch.setenv("OFFSHOOT_FIRMWARE_DIR", str(tmp_path))
    with pytest.raises(errors.DeviceError, match="firmware"):
        model.profile("qemu:cortex-m4")
