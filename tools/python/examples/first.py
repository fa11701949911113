"""A network from PyTorch or ONNX: compiled, measured, profiled on an emulated board, adapted, saved. Needs QEMU for the profile."""

import sys

import numpy as np
import offshoot

folder = sys.argv[1] if len(sys.argv) > 1 else "models/vibration"
data = {name: np.load(f"{folder}/{name}.npy") for name in ("calibration_x", "test_x", "test_y")}
shifted = {name: np.load(f"{folder}/shifted_{name}.npy") for name in ("train_x", "train_y", "test_x", "test_y")}

model = offshoot.compile(f"{folder}/model.onnx", data["calibration_x"], learn='recipe = "adapt"\n')
print(model, model.eval(data["test_x"], data["test_y"]), sep="\n")
print(model.profile("qemu:cortex-m4"))
learned = model.learn(
    shifted["train_x"], shifted["train_y"], test=(shifted["test_x"], shifted["test_y"]), epochs=2, fit=True
)
print(learned.report)
learned.save("learned.off")
