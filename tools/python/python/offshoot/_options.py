"""Keyword arguments as the command line's options, so that both have the same names, defaults and checks."""

import enum
import os
from typing import Any, Dict, List


def line(options: Dict[str, Any]) -> List[str]:
    """``max_flash="50%"`` becomes ``--max-flash 50%``.

    ``None`` and ``False`` leave an option out, ``True`` sets a flag. Lists and tuples repeat the option; the items of a dictionary
    are ``--key name=value``.
    """
    words: List[str] = []
    for key, value in options.items():
        flag = "--" + key.rstrip("_").replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, dict):
            for name, part in value.items():
                words.append(f"{flag}={name}={_word(part)}")
        elif isinstance(value, (list, tuple)):
            for part in value:
                words.append(f"{flag}={_word(part)}")
        else:
            words.append(f"{flag}={_word(value)}")
    return words


def _word(value: Any) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return str(value)
