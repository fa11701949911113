"""Compiled models."""

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from . import _native
from ._arrays import Array, array, arrays, pair
from ._options import line
from ._progress import Progress, listening
from ._report import _STYLE, MemoryMap, Report, of_rows, table, wrapped
from ._source import source, suffix_path
from .errors import SaturationWarning, UsageError

Outputs = Union[Array, Tuple[Array, ...]]


class Model:
    """A compiled model. It stays open: a small run costs microseconds.

    Make one by :func:`offshoot.compile` or :func:`offshoot.open`. A model does not change: :meth:`learn` returns another one. Its
    methods may be called from several threads; work goes on without the interpreter's lock.

    Attributes
    ----------
    path : str or None
        File that the model was read from or saved to.
    report : Report or None
        Report of the command that made it: ``compile`` or ``learn``.
    """

    __slots__ = ("_native", "_source", "_info", "path", "report")

    def __init__(
        self, native: _native.Network, path: Optional[str], origin: Union[None, bytes, str], report: Optional[Report]
    ) -> None:
        self._native: _native.Network = native
        self._source = origin
        self._info: Optional[Report] = None
        self.path = path
        self.report = report

    # Running

    def run(
        self,
        *x: Any,
        real: bool = True,
        target: str = "host",
        reset_every: Optional[int] = None,
        progress: Progress = None,
    ) -> Outputs:
        """Outputs for a batch of samples, as `offshoot run` computes them: the device's bits.

        Parameters
        ----------
        *x : array
            One array per input: ``(N, ...)`` in the shape of the ONNX tensor; channels last is accepted too, and a single sample without
            the batch axis. An int8 array goes into an int8 input unchanged; any other holds real numbers, which are quantised.
        real : bool
            Return float32; otherwise the model's own element type (int8 codes for an int8 output).
        target : str
            Where to run: ``host``, ``qemu:cortex-m4`` and other boards of :func:`offshoot.targets`.
        reset_every : int, optional
            Reset the state after so many samples, for a model compiled with ``stateful=True``; without it all samples of a call are one
            sequence.

        Returns
        -------
        array of shape (N, ...), or a tuple of them if the model has several outputs.

        Raises
        ------
        ShapeError, DtypeError, CalibrationError
            An array does not fit, or holds NaN or infinity.
        DeviceError
            The target does not answer: QEMU or the firmware is missing, for instance.
        """
        if target == "host" and progress is None:
            outputs, warned = self._native.run(arrays(x), real, target, reset_every, None)
        else:
            with listening(progress) as listener:
                outputs, warned = self._native.run(arrays(x), real, target, reset_every, listener)
        return _outputs(outputs, warned)

    def __call__(self, *x: Any) -> Outputs:
        """As :meth:`run`."""
        return self.run(*x)

    def step(self, *x: Any, real: bool = True) -> Outputs:
        """Outputs for one sample, which goes on from the state that the last step left.

        For models compiled with ``stateful=True``; shapes as for :meth:`run` with N = 1.
        """
        return _outputs(*self._native.step(arrays(x), real))

    def reset(self) -> None:
        """The next :meth:`step` begins a new sequence."""
        self._native.reset()

    # Measuring

    def eval(
        self,
        x: Any,
        y: Any,
        *,
        metric: str = "top1",
        limit: Optional[int] = None,
        target: str = "host",
        reset_every: Optional[int] = None,
        progress: Progress = None,
    ) -> Report:
        """Accuracy on labelled samples, as `offshoot eval` measures it.

        Parameters
        ----------
        x : array (N, ...), or a tuple of one array per input
        y : array
            Class numbers ``(N,)`` or one-hot rows for ``top1``; 0 and 1 for ``auc``; target values for ``mse``.
        metric : {"top1", "auc", "mse"}
        limit : int, optional
            Use only the first samples, this many.

        Returns
        -------
        Report with ``value`` (a fraction from 0 to 1 for ``top1``), ``count``, ``saturated``.
        """
        inputs = x if isinstance(x, tuple) else (x,)
        words = ["model", *(w for _ in inputs for w in ("--input", "x")), "--labels", "y"]
        words += line({"metric": metric, "limit": limit, "target": target, "reset_every": reset_every})
        with listening(progress) as listener:
            return Report._of(self._native.eval(arrays(inputs), array(y), words, listener))

    def profile(
        self, target: str = "qemu:cortex-m4", x: Any = None, *, onnx: Any = None, progress: Progress = None
    ) -> Report:
        """What every operator costs on a target, as `offshoot profile` counts it.

        Parameters
        ----------
        target : str
            A board or a chip of :func:`offshoot.targets`. Emulated ones need QEMU and the firmware, which a wheel does not contain.
        x : array, or a tuple of one array per input, optional
            A sample. Default: zeros; the cost does not depend on the data.
        onnx : network, optional
            Network that the model was compiled from, for its operators' names. Known if :func:`offshoot.compile` made the model.

        Returns
        -------
        Report with ``instructions``, ``cycles_modelled``, ``stack_bytes``, ``arena_bytes`` and rows ``operators``.
        """
        inputs = () if x is None else x if isinstance(x, tuple) else (x,)
        origin = self._source if onnx is None else source(onnx)
        with listening(progress) as listener:
            return Report._of(self._native.profile(arrays(inputs), target, origin, listener))

    def verify(
        self,
        *x: Any,
        onnx: Any = None,
        target: str = "host",
        limit: int = 4,
        threshold: float = 15.0,
        reset_every: Optional[int] = None,
        dim: Optional[Dict[str, int]] = None,
        progress: Progress = None,
    ) -> Report:
        """Compares operator by operator, as `offshoot verify`: float with int8, host with device.

        Parameters
        ----------
        *x : array
            Samples, one array per input, as for :meth:`run`.
        onnx : network, optional
            Network that the model was compiled from. Known if :func:`offshoot.compile` made the model.
        target : str
            Device to compare with the host, bit by bit.
        limit : int
            Samples to compare.
        threshold : float
            Signal-to-noise ratio (dB) under which an operator departs from float.

        Returns
        -------
        Report with ``equal``, ``first_difference``, ``first_departure``, ``max_abs_error`` and rows ``operators``.
        """
        origin = self._source if onnx is None else source(onnx)
        if origin is None:
            raise UsageError("the network that the model was compiled from is not known", "give onnx=")
        words = ["network", "model", *(w for _ in x for w in ("--input", "x"))]
        words += line(
            {"target": target, "limit": limit, "threshold": threshold, "reset_every": reset_every, "dim": dim}
        )
        with listening(progress) as listener:
            return Report._of(self._native.verify(origin, arrays(x), words, listener))

    # Learning

    def learn(
        self,
        x: Any = None,
        y: Any = None,
        *,
        test: Optional[Tuple[Any, Any]] = None,
        epochs: int = 1,
        rate: Optional[float] = None,
        rule: Optional[str] = None,
        steps: Optional[int] = None,
        skip: int = 0,
        fit: bool = False,
        course: Optional[int] = None,
        new_classes: int = 0,
        active_blocks: Optional[int] = None,
        arrays: Union[None, str, "os.PathLike[str]", Dict[str, Array]] = None,
        flash: Union[None, str, "os.PathLike[str]"] = None,
        restore: bool = False,
        save: bool = False,
        target: str = "host",
        progress: Progress = None,
    ) -> "Model":
        """The model after it has learned from samples, as `offshoot learn` trains it: the device's steps, bit for bit.

        The model must have a learning plan: ``offshoot.compile(..., learn=...)``.

        Parameters
        ----------
        x : array (N, ...)
            Training samples, learned in this order. Without them nothing is learned: what ``restore`` or ``arrays`` give is there.
        y : array (N,)
            Their class numbers.
        test : (x, y), optional
            Samples to measure the accuracy on, before and after.
        epochs : int
            Passes over the samples.
        rate, rule, steps, skip, fit, course, active_blocks
            Override the learning plan; see ``offshoot learn --help``.
        new_classes : int
            Classes to add that the network does not know; only when a model learns for the first time.
        arrays : path of an .npz file, or a dictionary
            What was learned earlier, from :meth:`learned`, to continue from.
        flash : path, optional
            File that stands in for the device's flash. Default: beside the model's file.
        restore, save : bool
            Continue from what the flash holds; save to it afterwards.

        Returns
        -------
        Model
            It runs, and learns on from there; ``report`` has ``accuracy_before``, ``accuracy_after``, ``curve``, ``digest``.
        """
        if (x is None) != (y is None):
            raise UsageError("x and y belong together", "give both, or neither")
        words = ["model", "--train", "x", "y", "--test", "x", "y"]
        words += line(
            {
                "epochs": epochs,
                "rate": rate,
                "rule": rule,
                "steps": steps,
                "skip": skip,
                "fit": fit,
                "course": course,
                "new_classes": new_classes,
                "active_blocks": active_blocks,
                "restore": restore,
                "save": save,
                "target": target,
            }
        )
        if (save or restore) and flash is None and not target.startswith("serial:"):
            flash = suffix_path(self.path, ".flash")
            if flash is None:
                raise UsageError("the model has no file that its flash could lie beside", "give flash=")
        words += line({"flash": flash})
        train = None if x is None else pair((x, y))
        judged = None if test is None else pair(test)
        with tempfile.TemporaryDirectory(prefix="offshoot-") as folder, listening(progress) as listener:
            if isinstance(arrays, dict):
                np.savez(Path(folder, "learned.npz"), **arrays)  # type: ignore[arg-type]
                arrays = Path(folder, "learned.npz")
            words += line({"import": arrays})
            native, said = self._native.learn(train, judged, words, listener)
        return Model(native, None, self._source, Report._of(said, ("output", "inference", "export", "page")))

    @property
    def classes(self) -> Optional[int]:
        """Number of classes that the model learns, new ones included; ``None`` without a learning plan."""
        return self._native.classes

    @property
    def has_learned(self) -> bool:
        """Whether the model holds what was learned, so that :meth:`learn` goes on from there."""
        return self._native.has_learned

    def learned(self) -> Dict[str, Array]:
        """What the call of :meth:`learn` that made this model learned, as named arrays: statistics, weights, counters."""
        found = self._native.learned()
        if found is None:
            found = self.learn()._native.learned()
        return found or {}

    def inference_only(self) -> "Model":
        """The model with what it learned, for inference alone: head and input normaliser are operators. It cannot learn on."""
        native = self._native.inference_only()
        if native is None:
            native = self.learn()._native.inference_only()
        assert native is not None, "a model that learn returned holds what was learned"
        return Model(native, None, self._source, self.report)

    # Looking

    def inspect(self) -> Report:
        """What the file holds, as `offshoot inspect`: inputs, outputs, operators, bytes, features of the runtime."""
        if self._info is None:
            self._info = Report._of(self._native.inspect(self.path or "model"))
        return self._info

    def memory_map(self) -> MemoryMap:
        """Where every operator writes its output in the arena, in bytes; rows ``operators``."""
        found = self.inspect()
        # The file does not keep names; a model that was just compiled knows them.
        compiled = self.report if self.report is not None and "tensors" in self.report else {"operators": []}
        names = {row["index"]: row["name"] for row in compiled["operators"]}
        keys = ("index", "name", "kind", "offset", "bytes")
        rows = [
            {**{key: row[key] for key in keys}, "name": names.get(row["index"], row["name"])}
            for row in found["operators"]
        ]
        text = found.text[found.text.rfind("output of each operator") :]
        extents = ("arena_bytes", "arena_lower_bound_bytes")
        return MemoryMap({**{key: found[key] for key in extents}, "operators": rows}, text)

    @property
    def flash_bytes(self) -> int:
        """Bytes of the ``.off`` file, which is what it takes of a device's flash."""
        return int(self.inspect()["file_bytes"])

    @property
    def arena_bytes(self) -> int:
        """Bytes of RAM for a run."""
        return int(self.inspect()["arena_bytes"])

    def to_bytes(self) -> bytes:
        """The ``.off`` file."""
        return self._native.bytes()

    def save(self, path: Union[str, "os.PathLike[str]"]) -> str:
        """Writes the ``.off`` file, at once or not at all; returns its path."""
        self.path = os.fspath(path)
        self._native.save(self.path)
        return self.path

    def __repr__(self) -> str:
        found = self.inspect()
        shapes = ", ".join(f"{i['dtype']}{tuple(i['shape'])}" for i in found["inputs"])
        return (
            f"<offshoot.Model {shapes}: {len(found['operators'])} operators, {found['file_bytes']:,} bytes of flash, "
            f"{found['arena_bytes']:,} of arena>"
        )

    def _repr_html_(self) -> str:
        found = self.inspect()
        facts = {
            "flash, bytes": found["file_bytes"],
            "arena (RAM), bytes": found["arena_bytes"],
            "multiply-accumulates": found["macs"],
            "weights": found["weights"],
        }
        ports = [
            {"": f"{what} {i}", **port} for what in ("input", "output") for i, port in enumerate(found[what + "s"])
        ]
        return wrapped(_STYLE, table(facts, [facts.values()]), of_rows(ports), self.memory_map()._repr_html_())

    def __reduce__(self) -> Any:
        return _restored, (self.to_bytes(), self._native.index, self.path, self._source, self.report)


def _restored(data: bytes, network: int, path: Optional[str], origin: Any, report: Optional[Report]) -> Model:
    return Model(_native.parse(data, network), path, origin, report)


def _outputs(outputs: List[Array], warned: List[str]) -> Outputs:
    for text in warned:
        warnings.warn(text, SaturationWarning, stacklevel=3)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def open(file: Union[str, "os.PathLike[str]", bytes], *, network: int = 0) -> Model:
    """Opens a compiled model.

    Parameters
    ----------
    file : path or bytes
        A ``.off`` file.
    network : int
        Which network, if the file holds several; 0 is the first.

    Raises
    ------
    NotFoundError, FormatError
        There is no such file; it is damaged, of another version or of another kind.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        return Model(_native.parse(bytes(file), network), None, None, None)
    path = os.fspath(file)
    return Model(_native.open(path, network), path, None, None)


def compile(
    model: Any,
    calibration: Any = None,
    *,
    example: Any = None,
    labels: Any = None,
    precision: Optional[str] = None,
    target: Optional[str] = None,
    learn: Union[None, str, "os.PathLike[str]"] = None,
    max_flash: Union[None, int, str] = None,
    max_ram: Union[None, int, str] = None,
    prefer: Optional[str] = None,
    keep_float: Any = (),
    stateful: bool = False,
    progress: Progress = None,
    **options: Any,
) -> Model:
    """Compiles a network, as `offshoot compile` does: the same file, byte for byte.

    Parameters
    ----------
    model : path, bytes, onnx.ModelProto or torch.nn.Module
        ``.onnx`` or ``.tflite`` file, or a network in memory.
    calibration : array (N, ...), or a tuple of one array per input, optional
        50 to 500 typical samples without labels, preprocessed as for the network; needed to quantise a float network.
    example : array, tensor or tuple of them, optional
        Inputs of a ``torch.nn.Module`` with the batch axis in front. Default: the first calibration sample.
    labels : array (N,), optional
        Class numbers of the calibration samples, to train the probes of a learning plan.
    precision : {"int8", "int4", "int2", "f32"} or path of a policy, optional
        Number format. Default: int8 if there are calibration samples or the network is quantised.
    target : str, optional
        Board or chip that the model must fit; see :func:`offshoot.targets`.
    learn : path or text, optional
        Learning plan (TOML): which layers learn on the device, and how.
    max_flash, max_ram : int or str, optional
        Largest file and arena: bytes, or ``"64k"``, ``"1M"``, ``"64Ki"``.
    prefer : {"balanced", "speed", "ram", "flash"}, optional
    keep_float : list of str
        Operators to keep in float.
    stateful : bool
        Keep the state of recurrent layers between runs.
    progress : True or function of (what, done, total), optional
    **options
        Further options of ``offshoot compile --help`` with underscores: ``io``, ``clipping``, ``strict_int8``, ``allow_poor``,
        ``nested``, ``dim={"N": 16}``, ...

    Returns
    -------
    Model
        ``model.report`` is the command's report.

    Raises
    ------
    UnsupportedError
        Operators are not supported; the message lists all of them.
    CalibrationError, AccuracyError, BudgetError
        Samples are missing or cannot be used; the outputs would be mostly noise; the result exceeds a limit.
    """
    samples = () if calibration is None else calibration if isinstance(calibration, tuple) else (calibration,)
    if example is None and samples:
        example = tuple(array(x)[:1] for x in samples)
    plan = None
    if isinstance(learn, str) and ("\n" in learn or "=" in learn):
        plan, learn = learn, None
    words = ["network", "-o", "model.off"]
    words += line(
        {
            "precision": precision,
            "target": target,
            "learn": learn,
            "max_flash": max_flash,
            "max_ram": max_ram,
            "prefer": prefer,
            "keep_float": keep_float,
            "stateful": stateful,
            **options,
        }
    )
    origin = source(model, example)
    classes = None if labels is None else array(labels)
    with listening(progress) as listener:
        native, said = _native.compile(origin, arrays(samples), classes, plan, words, listener)
    return Model(native, None, origin, Report._of(said, ("output",)))
