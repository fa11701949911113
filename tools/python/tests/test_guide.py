"""The Python of the guide's page runs, from top to bottom; the stubs name what there is."""

import ast
import re

import offshoot
from conftest import ROOT
from offshoot import _native


def blocks():
    page = (ROOT / "docs/src/python.md").read_text()
    return re.findall(r"^```python(,emulated)?\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def test_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    names = {}
    plain = [text for emulated, text in blocks() if not emulated]
    assert len(plain) > 4
    for text in plain:
        exec(compile(text, "docs/src/python.md", "exec"), names)
    assert names["learned"].report["accuracy_after"] > names["learned"].report["accuracy_before"]


def test_the_guides_emulated_part_runs(tmp_path, monkeypatch, emulated, vibration):
    names = {"model": offshoot.compile(vibration.onnx, vibration.calibration_x)}
    for text in [text for emulated, text in blocks() if emulated]:
        exec(compile(text, "docs/src/python.md", "exec"), names)


def test_the_stub_names_what_the_native_part_has():
    tree = ast.parse((ROOT / "tools/python/python/offshoot/_native.pyi").read_text())

    def functions(nodes):
        return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}

    def public(thing):
        return {name for name in dir(thing) if not name.startswith("_")}

    assert functions(tree.body) | {"Network"} == public(_native)
    network = next(node for node in tree.body if isinstance(node, ast.ClassDef))
    assert functions(network.body) == public(_native.Network)


def test_everything_public_is_documented():
    for name in offshoot.__all__:
        thing = getattr(offshoot, name)
        assert thing.__doc__, name
        if isinstance(thing, type):
            own = [member for key, member in vars(thing).items() if callable(member) and not key.startswith("_")]
            assert all(member.__doc__ for member in own), name
