"""Offshoot: compile networks for microcontrollers, see what they cost there, and train them as the device does.

>>> import numpy as np, offshoot
>>> model = offshoot.compile("model.onnx", calibration=np.load("calibration_x.npy"))
>>> model.run(x)                        # the device's bits
>>> model.profile("qemu:cortex-m4")     # what each operator costs
>>> model.save("model.off")

The functions are those of the command line ``offshoot``, with its names, defaults and messages.
"""

from . import errors
from ._model import Model, compile, open
from ._native import version as _version
from ._report import MemoryMap, Report
from ._tools import Made, compress, inspect, qat, search, sensitivity, targets
from .errors import OffshootError
from .learning import Classifier

__version__ = _version()

__all__ = [
    "Classifier",
    "Made",
    "MemoryMap",
    "Model",
    "OffshootError",
    "Report",
    "compile",
    "compress",
    "errors",
    "inspect",
    "open",
    "qat",
    "search",
    "sensitivity",
    "targets",
]
