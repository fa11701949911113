"""Exceptions, with the messages of the command line: what is wrong and where, and what to do about it.

Every exception is an :class:`OffshootError`; where Python has an exception of its own for the case, it is that too.
"""

from typing import Dict, Type


class OffshootError(Exception):
    """Base of all exceptions of this package.

    Attributes
    ----------
    kind : str
        Stable name for programs, as in the command line's JSON: ``shape``, ``budget``, ...
    message : str
        What is wrong and where.
    help : str
        What to do.
    """

    kind: str = "internal"

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message, help)
        self.message = message
        self.help = help

    def __str__(self) -> str:
        return f"{self.message}\n help: {self.help}" if self.help else self.message


class UsageError(OffshootError, ValueError):
    """An argument is wrong, or arguments contradict each other."""

    kind = "usage"


class NotFoundError(OffshootError, FileNotFoundError):
    """A named file does not exist."""

    kind = "not_found"


class IoError(OffshootError, OSError):
    """Reading or writing failed."""

    kind = "io"


class FormatError(OffshootError, ValueError):
    """A file has the wrong format or is damaged."""

    kind = "format"


class ShapeError(OffshootError, ValueError):
    """An array has the wrong shape."""

    kind = "shape"


class DtypeError(OffshootError, TypeError):
    """An array has the wrong element type."""

    kind = "dtype"


class UnsupportedError(OffshootError, NotImplementedError):
    """The network needs something that Offshoot does not support."""

    kind = "unsupported"


class CalibrationError(OffshootError, ValueError):
    """Calibration samples cannot be used."""

    kind = "calibration"


class AccuracyError(OffshootError):
    """The result differs too much from the float network."""

    kind = "accuracy"


class BudgetError(OffshootError):
    """The model exceeds a limit or does not fit the target."""

    kind = "budget"


class DeviceError(OffshootError, RuntimeError):
    """The target is unknown, is missing or does not answer: no emulator (QEMU) or no firmware, for instance."""

    kind = "device"


class MismatchError(OffshootError, ValueError):
    """Two things do not belong together, such as a model and labels of another one."""

    kind = "mismatch"


class InternalError(OffshootError, RuntimeError):
    """A fault in Offshoot itself."""

    kind = "internal"


class SaturationWarning(UserWarning):
    """Many values given lie outside the range that the model's input represents."""


_KINDS: Dict[str, Type[OffshootError]] = {
    error.kind: error
    for error in (
        UsageError,
        NotFoundError,
        IoError,
        FormatError,
        ShapeError,
        DtypeError,
        UnsupportedError,
        CalibrationError,
        AccuracyError,
        BudgetError,
        DeviceError,
        MismatchError,
        InternalError,
    )
}


def of_kind(kind: str, message: str, help: str) -> OffshootError:
    """The exception for a failure of the native part."""
    return _KINDS.get(kind, InternalError)(message, help)
