"""Arrays of the caller as NumPy arrays with element types that the native part reads."""

from typing import Any, Sequence, Tuple

import numpy as np

_READ = frozenset("?bBhHiIlqfd")


def array(value: Any) -> np.ndarray:
    """A NumPy array without a copy where that is possible: of arrays, tensors, lists, data frames."""
    if type(value) is not np.ndarray:
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        value = np.asarray(value)
    kind = value.dtype
    if kind.char in _READ and kind.isnative:
        return value
    if kind.kind == "f":
        return value.astype(np.float32 if kind.itemsize <= 4 else np.float64)
    if kind.kind in "iu" and (kind.itemsize < 8 or kind.kind == "i" or (value <= np.iinfo(np.int64).max).all()):
        return value.astype(np.int64)
    return value


def arrays(values: Sequence[Any]) -> list:
    """One array per input of a network."""
    return [array(value) for value in values]


def pair(values: Any) -> Tuple[np.ndarray, np.ndarray]:
    """Samples and their labels."""
    x, y = values
    return array(x), array(y)
