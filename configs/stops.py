"""Signals that stop the work: which they are, and the exceptions that they end in."""

import os
import signal
import time

from configs.errors import CheckFailed

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A run that gets one of these saves and stops; any other work ends, and what is done is kept."""
SAME_STOP_S = 5.0
"""Launchers and terminals send one stop more than once: repeats within so many seconds are it."""


class StopSignal(KeyboardInterrupt):
    """A signal of STOP_SIGNALS came to this process; see ``raise_on_stop``."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stopped(CheckFailed):
    """A stop was asked for while ranks trained: whatever they left, nothing more is to be begun.

    ``number`` is of the signal. ``exit_code`` is that of a run that did not finish, unless given.
    """

    def __init__(
        self, message: str, hint: str, number: int, exit_code: int = CheckFailed.exit_code
    ) -> None:
        super().__init__(message, hint)
        self.number = number
        self.exit_code = exit_code


class StoppedAtEnd(Stopped):
    """The stop came so late that the run is complete."""


def exit_code_of(number: int) -> int:
    """The code that a shell gives for a process that a signal ended: 130 for Ctrl-C."""
    return 128 + number


def raise_on_stop() -> None:
    """From now on STOP_SIGNALS raise StopSignal in the main thread; a second one later than
    SAME_STOP_S ends the process at once.

    Without it SIGTERM would end a command that has nothing recorded yet, and none at all that is
    process 1 of a container. A signal that is ignored, as nohup leaves SIGHUP, stays ignored.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def stop_came() -> int | None:
    """The signal that raised StopSignal in this process: a library may have swallowed that, or made
    another error of it."""
    return None if _first is None else _first[0]


_first: tuple[int, float] | None = None
"""The first signal of a stop, and when it came."""


def _stop(number: int, _frame: object) -> None:
    global _first
    now = time.monotonic()
    if _first is None:
        _first = number, now
        raise StopSignal(number)
    if now - _first[1] > SAME_STOP_S:
        os._exit(exit_code_of(number))
