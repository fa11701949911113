"""Long work on networks before they are compiled: compression, search, sensitivity, training with few bits."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple, Union

import numpy as np

from . import _native
from ._arrays import array
from ._model import Model
from ._model import open as opened
from ._options import line
from ._progress import Progress, listening
from ._report import Report
from ._source import as_file
from .errors import UsageError

Folder = Union[None, str, "os.PathLike[str]"]


class Made:
    """What a command made.

    Attributes
    ----------
    model : Model or None
        The compiled network.
    onnx : bytes or None
        The network as an ONNX file.
    policy : str or None
        Bits, step sizes and ranges of its layers (TOML): with it ``offshoot.compile(onnx, precision=policy_path)`` makes the model.
    report : Report
    folder : str or None
        Folder with the files, if one was named.
    """

    def __init__(self, report: Report, folder: Path, kept: bool) -> None:
        def content(name: str) -> Optional[bytes]:
            path = folder / name
            return path.read_bytes() if path.is_file() else None

        self.report = report
        self.folder = str(folder) if kept else None
        off, self.onnx, policy = (content(name) for name in ("model.off", "model.onnx", "policy.toml"))
        self.policy = None if policy is None else policy.decode()
        self.model: Optional[Model] = None
        if off is not None:
            self.model = opened(folder / "model.off") if kept else opened(off)
            self.model._source = self.onnx

    def __repr__(self) -> str:
        return f"<offshoot.Made {self.model!r}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def compress(
    model: Any,
    x: Any,
    y: Any,
    *,
    test: Optional[Tuple[Any, Any]] = None,
    output: Folder = None,
    max_flash: Union[None, int, str] = None,
    max_ram: Union[None, int, str] = None,
    max_macs: Union[None, int, str] = None,
    max_instructions: Union[None, int, str] = None,
    max_loss: Optional[str] = None,
    target: Optional[str] = None,
    method: Union[None, str, List[str]] = None,
    epochs: int = 0,
    seed: int = 0,
    example: Any = None,
    progress: Progress = None,
    **options: Any,
) -> Made:
    """Shrinks a network until it fits, as `offshoot compress`.

    Parameters
    ----------
    model : path, bytes, onnx.ModelProto or torch.nn.Module
        Float network with one input.
    x : array (N, ...)
        Samples. A fifth of them is held out for testing.
    y : array (N,)
        Their class numbers.
    test : (x, y), optional
        Samples that only the first network and the result are judged on.
    output : path, optional
        Folder for the results and for checkpoints, from which a stopped call goes on. Default: nothing is kept on disk.
    max_flash, max_ram, max_macs, max_instructions : int or str
        Limits: bytes (``"64k"``), a number, or a share of the uncompressed model (``"50%"``). Instructions need an emulated target.
    max_loss : str, optional
        Most accuracy to lose, in percentage points: ``"0.5%"``.
    method : {"auto", "prune", "erase", "bits"} or list of them, optional
    epochs : int
        Epochs of fine-tuning.
    **options
        Further options of ``offshoot compress --help`` with underscores: ``keep``, ``ratio={"conv2": 0.5}``, ``plan``, ``score``, ...

    Raises
    ------
    BudgetError
        The limits cannot be met; the message names the nearest point.
    KeyboardInterrupt
        Ctrl-C was pressed; the work stops within a step.
    """
    with _workshop(model, example, x, y, test, output) as (path, data, judged, folder):
        words = [path, *data, *judged, "-o", str(folder)]
        words += line(
            {
                "max_flash": max_flash,
                "max_ram": max_ram,
                "max_macs": max_macs,
                "max_instructions": max_instructions,
                "max_loss": max_loss,
                "target": target,
                "method": method,
                "epochs": epochs,
                "seed": seed,
                **options,
            }
        )
        return Made(_verb("compress", words, progress, ("output",)), folder, output is not None)


def qat(
    model: Any,
    x: Any,
    y: Any,
    *,
    test: Optional[Tuple[Any, Any]] = None,
    output: Folder = None,
    precision: Optional[str] = None,
    epochs: int = 4,
    target: Optional[str] = None,
    seed: int = 0,
    example: Any = None,
    progress: Progress = None,
    **options: Any,
) -> Made:
    """Trains with quantised weights, as `offshoot qat`: few bits, learned step sizes.

    Parameters as for :func:`compress`; ``precision`` is ``"int8"``, ``"int4"`` (default), ``"int2"`` or the path of a policy. Further
    options: ``rate``, ``batch``, ``distil``, ``limit``, ``held_out``, ``calibration``.
    """
    with _workshop(model, example, x, y, test, output) as (path, data, judged, folder):
        words = [path, *data, *judged, "-o", str(folder)]
        words += line({"precision": precision, "epochs": epochs, "target": target, "seed": seed, **options})
        return Made(_verb("qat", words, progress, ("output",)), folder, output is not None)


def sensitivity(
    model: Any,
    x: Any,
    y: Any,
    *,
    test: Optional[Tuple[Any, Any]] = None,
    output: Folder = None,
    max_flash: Union[None, int, str] = None,
    max_loss: Optional[str] = None,
    codebooks: bool = False,
    seed: int = 0,
    example: Any = None,
    progress: Progress = None,
    **options: Any,
) -> Report:
    """What fewer weight bits cost in each layer, and a policy for a budget, as `offshoot sensitivity`.

    Parameters as for :func:`compress`; ``output`` is the path of the policy to write (``.toml``), for ``compile(precision=...)``.

    Returns
    -------
    Report with rows ``trials`` (``layer``, ``bits``, ``saved`` bytes, ``loss``, ``drop`` of accuracy) and ``policy``.
    """
    with _workshop(model, example, x, y, test, None) as (path, data, judged, _):
        words = [path, *data, *judged]
        words += line(
            {
                "output": output,
                "max_flash": max_flash,
                "max_loss": max_loss,
                "codebooks": codebooks,
                "seed": seed,
                **options,
            }
        )
        return _verb("sensitivity", words, progress, ())


def search(
    space: Union[str, "os.PathLike[str]"],
    x: Any,
    y: Any,
    *,
    output: Union[str, "os.PathLike[str]"],
    test: Optional[Tuple[Any, Any]] = None,
    target: Optional[str] = None,
    objectives: Union[None, str, List[str]] = None,
    evaluations: int = 100,
    strategy: Optional[str] = None,
    seed: int = 0,
    progress: Progress = None,
    **options: Any,
) -> Report:
    """Searches the sub-networks of a super-network, as `offshoot search`.

    Parameters
    ----------
    space : path
        Search space (``space.toml``).
    x, y : array or path
        Samples and class numbers. Arrays are kept as ``x.npy`` and ``y.npy`` in the folder of the search.
    output : path
        Folder of the search. A search that was stopped, by Ctrl-C for instance, goes on from there when it is called again.
    **options
        Further options of ``offshoot search --help`` with underscores: ``max_flash``, ``max_latency``, ``hours``, ``points``, ...

    Returns
    -------
    Report with rows ``front``: ``measured``, ``options``, ``policy``, ``folder`` of each point, which has ``model.off``.
    """
    if options.get("executor", "local") != "local":
        raise UsageError(
            f"executor: batch systems start the command line, which `{options['executor']}` cannot do from Python",
            "run `offshoot search` with the same folder and arguments: it continues this search",
        )
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    data = ["--data", _file(x, folder / "x.npy"), _file(y, folder / "y.npy")]
    judged: List[str] = []
    if test is not None:
        judged = ["--test", _file(test[0], folder / "test_x.npy"), _file(test[1], folder / "test_y.npy")]
    words = [os.fspath(space), *data, *judged, "-o", str(folder)]
    words += line(
        {
            "target": target,
            "objectives": objectives,
            "evaluations": evaluations,
            "strategy": strategy,
            "seed": seed,
            **options,
        }
    )
    return _verb("search", words, progress, ())


def inspect(model: Any, *, example: Any = None) -> Report:
    """What a network holds after the lossless passes, as `offshoot inspect`: shapes, operators, their work and weights.

    Parameters
    ----------
    model : path, bytes, onnx.ModelProto or torch.nn.Module
        A network, or the path of a compiled model (``.off``). For an open model there is :meth:`Model.inspect`.
    """
    with tempfile.TemporaryDirectory(prefix="offshoot-") as folder:
        with as_file(model, example, Path(folder)) as path:
            return _verb("inspect", [path], None, ())


def targets(search: Optional[str] = None) -> Report:
    """The known targets: boards, and with ``search`` the chips whose name contains that text; rows ``targets``."""
    return _verb("target", ["list", *line({"search": search})], None, ())


def _verb(name: str, words: List[str], progress: Progress, without: Tuple[str, ...]) -> Report:
    with listening(progress) as listener:
        return Report._of(_native.verb(name, words, listener), without)


def _file(value: Any, path: Path) -> str:
    """The path of an array's file, which is written if the array is in memory."""
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    np.save(path, array(value))
    return str(path)


@contextlib.contextmanager
def _workshop(
    model: Any, example: Any, x: Any, y: Any, test: Optional[Tuple[Any, Any]], output: Folder
) -> Iterator[Tuple[str, List[str], List[str], Path]]:
    """Network and samples as files: (network, ``--data …``, ``--test …``, folder for the results)."""
    if example is None and not isinstance(x, (str, os.PathLike)):
        example = array(x)[:1]
    with tempfile.TemporaryDirectory(prefix="offshoot-") as name:
        folder = Path(name)
        data = ["--data", _file(x, folder / "x.npy"), _file(y, folder / "y.npy")]
        judged: List[str] = []
        if test is not None:
            judged = ["--test", _file(test[0], folder / "test_x.npy"), _file(test[1], folder / "test_y.npy")]
        with as_file(model, example, folder) as path:
            yield path, data, judged, folder / "made" if output is None else Path(output)


__all__: List[str] = ["Made", "compress", "inspect", "qat", "search", "sensitivity", "targets"]
