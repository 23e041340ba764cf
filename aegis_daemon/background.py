"""Leaving the terminal: a process of its own session, which holds nothing of who started it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

_MOST = 1 << 20


def begin() -> Callable[[], None]:
    """Go on in a child, which calls what this returns when it answers; meanwhile this process waits, and then exits.

    Until then the child's standard error is this one's: why it does not start is seen there.
    """
    os.closerange(3, min(_MOST, os.sysconf("SC_OPEN_MAX")))
    heard, said = os.pipe()
    if child := os.fork():
        os.close(said)
        os._exit(0 if os.read(heard, 1) else _exit_code(child))
    os.close(heard)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    return lambda: _leave(said)


def _exit_code(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) or 1  # it has ended without a word


def _leave(said: int) -> None:
    _end_standard_streams()
    os.write(said, b"1")
    os.close(said)


def _end_standard_streams() -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:  # and not one of its kinds, which write to files
            root.removeHandler(handler)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
