"""Arrays of the caller as NumPy arrays with element types that the native part reads."""

from typing import Any, List, Sequence, Tuple

import numpy as np

Array = np.ndarray[Any, Any]

_READ = frozenset("?bBhHiIlqfd")


def array(value: Any) -> Array:
    """A NumPy array without a copy where that is possible: of arrays, tensors, lists, data frames."""
    if type(value) is np.ndarray:
        given: Array = value
    else:
        given = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    kind = given.dtype
    if kind.char in _READ and kind.isnative:
        return given
    if kind.kind == "f":
        return given.astype(np.float32 if kind.itemsize <= 4 else np.float64)
    # uint64 numbers beyond int64's range are refused where they are read.
    if kind.kind in "iu" and (kind.itemsize < 8 or kind.kind == "i" or (given <= np.iinfo(np.int64).max).all()):
        return given.astype(np.int64)
    return given


def arrays(values: Sequence[Any]) -> List[Array]:
    """One array per input of a network."""
    return [array(value) for value in values]


def pair(values: Any) -> Tuple[Array, Array]:
    """Samples and their labels."""
    x, y = values
    return array(x), array(y)
