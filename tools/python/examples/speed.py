"""How many small runs a second a model does that stays open, and how many if it is opened for each."""

import time

import numpy as np
import offshoot

model = offshoot.compile("models/vibration/model.onnx", np.load("models/vibration/calibration_x.npy"))
x = np.load("models/vibration/test_x.npy")
data = model.to_bytes()


def rate(run, seconds=2.0):
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for sample in x[:100]:
            run(sample)
        count += 100
    return count / (time.perf_counter() - start)


print(f"{model.report['macs']:,} multiply-accumulates a run")
print(f"open: {rate(model.run):,.0f} runs a second; opened for each: {rate(lambda s: offshoot.open(data).run(s)):,.0f}")
print(f"in batches of {len(x)}: {len(x) * rate(lambda _: model.run(x)):,.0f} samples a second")
