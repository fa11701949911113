"""Networks in the forms in which Python has them, as files' bytes or paths."""

import contextlib
import io
import os
from pathlib import Path
from typing import Any, Iterator, Optional, Union

from .errors import UsageError

Network = Any


def source(network: Network, example: Any = None) -> Union[bytes, str]:
    """The bytes of a network in memory, or the path of its file.

    Parameters
    ----------
    network : path, bytes, onnx.ModelProto or torch.nn.Module
        An ``.onnx`` or ``.tflite`` file, or a network in memory.
    example : array, tensor or tuple of them, optional
        Inputs of a ``torch.nn.Module``, with the batch axis in front: their shapes become the network's.
    """
    if isinstance(network, (bytes, bytearray, memoryview)):
        return bytes(network)
    if isinstance(network, (str, os.PathLike)):
        return os.fspath(network)
    if hasattr(network, "SerializeToString"):
        return bytes(network.SerializeToString())
    if hasattr(network, "state_dict") and hasattr(network, "forward"):
        return _of_torch(network, example)
    raise UsageError(
        f"a network cannot be a {type(network).__name__}",
        "give the path or bytes of an .onnx or .tflite file, an onnx.ModelProto, or a torch.nn.Module with example=",
    )


@contextlib.contextmanager
def as_file(network: Network, example: Any, folder: Path) -> Iterator[str]:
    """The path of the network's file, which is in ``folder`` if the network is in memory."""
    given = source(network, example)
    if isinstance(given, bytes):
        # Byte 4 on names the format of a TensorFlow Lite file.
        path = folder / ("network.tflite" if given[4:8] == b"TFL3" else "network.onnx")
        path.write_bytes(given)
        yield str(path)
    else:
        yield given


def _of_torch(module: Any, example: Any) -> bytes:
    import torch

    if example is None:
        raise UsageError(
            "a torch.nn.Module has no shapes", "give example=: inputs for one call, with the batch axis in front"
        )
    inputs = example if isinstance(example, (tuple, list)) else (example,)
    tensors = tuple(torch.as_tensor(x) for x in inputs)
    trains = module.training
    made = io.BytesIO()
    module.eval()
    try:
        with torch.no_grad():
            _export(torch, module, tensors, made)
    finally:
        module.train(trains)
    return made.getvalue()


def _export(torch: Any, module: Any, tensors: Any, made: io.BytesIO) -> None:
    options = {"opset_version": 13}
    try:
        # The exporter by tracing: newer versions take another one by default, which needs further packages.
        torch.onnx.export(module, tensors, made, dynamo=False, **options)
    except TypeError as error:
        if "dynamo" not in str(error):
            raise
        torch.onnx.export(module, tensors, made, **options)


def suffix_path(path: Optional[str], suffix: str) -> Optional[str]:
    """The path with another ending."""
    return None if path is None else str(Path(path).with_suffix(suffix))
