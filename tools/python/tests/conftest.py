"""Shared data of the tests: the repository's models, and the command line to compare with."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import offshoot
import pytest

ROOT = Path(__file__).resolve().parents[3]

PLAN = 'recipe = "adapt"\n'


def pytest_terminal_summary(terminalreporter):
    """Adds skipped tests to test.sh's list."""
    names = os.environ.get("OFFSHOOT_SKIPPED")
    if not names:
        return
    with open(names, "a") as file:
        for report in terminalreporter.stats.get("skipped", []):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            file.write(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}\n")


class Data:
    """A model of the repository with its samples."""

    def __init__(self, name):
        self.folder = ROOT / "models" / name
        self.onnx = str(self.folder / "model.onnx")

    def path(self, name):
        return str(self.folder / f"{name}.npy")

    def __getattr__(self, name):
        return np.load(self.path(name))


@pytest.fixture(scope="session")
def vibration():
    return Data("vibration")


@pytest.fixture(scope="session")
def glyphs():
    return Data("glyphs")


@pytest.fixture(scope="session")
def model(vibration):
    return offshoot.compile(vibration.onnx, vibration.calibration_x)


@pytest.fixture(scope="session")
def learner(vibration):
    return offshoot.compile(vibration.onnx, vibration.calibration_x, learn=PLAN)


@pytest.fixture(scope="session")
def command():
    """`command("run", ...)` runs the command line and returns its JSON."""
    given = os.environ.get("OFFSHOOT_COMMAND")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    places = [given] if given else [target / "debug/offshoot", target / "release/offshoot", shutil.which("offshoot")]
    # A script of that name on the path is not the command.
    found = next((p for p in places if p and os.access(p, os.X_OK)), None)
    if found is None:
        pytest.skip("the command line is not built (cargo build -p offshoot-cli)")

    def run(*words):
        done = subprocess.run([found, *map(str, words), "--json"], capture_output=True, text=True)
        said = json.loads(done.stdout)
        assert done.returncode == (1 if "error" in said else 0) or "error" in said, done.stderr
        return said

    return run


@pytest.fixture
def emulated():
    """Skips without an emulator; the firmware is built where it is missing."""
    if os.environ.get("OFFSHOOT_SKIP_EMULATED") == "1":
        pytest.skip("emulated boards (OFFSHOOT_SKIP_EMULATED=1)")
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("no qemu-system-arm")
