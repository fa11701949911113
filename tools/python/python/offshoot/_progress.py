"""Progress of long work: tqdm, lines on stderr, or a function of the caller."""

import logging
import sys
import time
from typing import Any, Callable, Optional, Union

Progress = Union[None, bool, Callable[[str, int, int], None]]

_log = logging.getLogger("offshoot")


class _Listener:
    """Hears from the native part, on the thread of the caller."""

    def part(self, what: str, done: int, total: int) -> None:
        pass

    def note(self, text: str) -> None:
        _log.info("%s", text)

    def close(self) -> None:
        pass


class _Calls(_Listener):
    def __init__(self, function: Callable[[str, int, int], None]) -> None:
        self._function = function
        self._last: Any = None

    def part(self, what: str, done: int, total: int) -> None:
        if self._last != (what, done, total):
            self._last = (what, done, total)
            self._function(what, done, total)


class _Bars(_Listener):
    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._bar: Any = None

    def part(self, what: str, done: int, total: int) -> None:
        bar = self._bar
        if bar is None or bar.desc != f"{what}: " or done < bar.n:
            self.close()
            bar = self._bar = self._tqdm(desc=what, total=total or None)
        bar.total = total or None
        bar.update(done - bar.n)

    def note(self, text: str) -> None:
        self._tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Lines(_Listener):
    """A line at most every ten seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 2.0

    def part(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 10.0
            print(f"{what}: {done} of {total}" if total else what, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class listening:
    """``with listening(progress) as listener:`` hands a listener to the native part."""

    def __init__(self, progress: Progress) -> None:
        self._listener: _Listener
        if progress is None or progress is False:
            self._listener = _Listener()
        elif progress is True:
            self._listener = _shown()
        elif callable(progress):
            self._listener = _Calls(progress)
        else:
            raise TypeError("progress: give True, or a function of (what, done, total)")

    def __enter__(self) -> _Listener:
        return self._listener

    def __exit__(self, *_: Optional[object]) -> None:
        self._listener.close()


def _shown() -> _Listener:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Lines()
    return _Bars(tqdm)
