"""The caller's terminal while a command in a guest has it: raw, of the same size, and as it was before at the end."""

from __future__ import annotations

import os
import queue
import signal
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Self

import click

import aegis_sdk as aegis

_KEYBOARD = 0
_Handler = Callable[[int, FrameType | None], None]


def required(what: str) -> None:
    """UsageError unless somebody sits at standard input."""
    if not os.isatty(_KEYBOARD):
        raise click.UsageError(f"{what} needs a terminal, and standard input is none.")


def size() -> tuple[int, int]:
    """Rows and columns of the terminal; the usual ones where it does not know them."""
    cols, rows = os.get_terminal_size(_KEYBOARD)
    return (rows, cols) if rows and cols else (24, 80)


@contextmanager
def lent(process: aegis.Process) -> Iterator[None]:
    """The terminal belongs to *process*: each key reaches it as it is, and each change of size.

    It is as it was before when the block is left, in whatever way, and while we are stopped.
    """
    if in_background():
        os.kill(os.getpid(), signal.SIGTTIN)  # before we look at its modes: now they are the shell's that started us
    with ExitStack() as undo:
        modes = _Modes.found()
        sizes = undo.enter_context(_following(process))
        undo.enter_context(_handling(signal.SIGWINCH, lambda *_: sizes.put(True)))
        undo.enter_context(_handling(signal.SIGTSTP, lambda *_: modes.stop()))
        undo.enter_context(_handling(signal.SIGCONT, lambda *_: modes.go_on(sizes)))
        undo.callback(modes.restore)
        undo.callback(modes.restore)  # twice: a second signal may interrupt the first
        modes.raw()
        sizes.put(True)  # it may have changed while the guest booted
        yield


class _Modes:
    """What a terminal does with keys: as it was found, or nothing."""

    def __init__(self, before: list[object]) -> None:
        self._before = before
        self._lent = False

    @classmethod
    def found(cls) -> Self:
        with _in_words():
            return cls(termios.tcgetattr(_KEYBOARD))

    def raw(self) -> None:
        self._lent = True
        with _in_words():
            tty.setraw(_KEYBOARD, termios.TCSANOW)  # what was typed ahead stays

    def restore(self) -> None:
        self._lent = False
        self._put_back()

    def _put_back(self) -> None:
        if in_background():  # it is not ours now, and to touch it would stop us
            return
        with suppress(termios.error):  # it has been hung up
            termios.tcsetattr(_KEYBOARD, termios.TCSANOW, self._before)  # type: ignore[arg-type]  # as they came

    def stop(self) -> None:
        self._put_back()
        # Not SIGTSTP again: that one has a handler.
        os.kill(os.getpid(), signal.SIGSTOP)

    def go_on(self, sizes: queue.SimpleQueue[bool]) -> None:
        if self._lent and not in_background():
            with suppress(OSError):  # it has been hung up: that, too, lets us go on
                self.raw()
            sizes.put(True)


@contextmanager
def _in_words() -> Iterator[None]:
    """An error of the terminal's as an OSError: it was hung up, or we are an orphan in its background."""
    try:
        yield
    except termios.error as error:
        raise OSError(f"this terminal cannot be had: {error.args[1]}") from error


def in_background() -> bool:
    """Whether standard input is a terminal that would stop us if we read from it."""
    try:
        return os.tcgetpgrp(_KEYBOARD) != os.getpgrp()
    except OSError:
        return False  # no terminal, or not ours


@contextmanager
def _following(process: aegis.Process) -> Iterator[queue.SimpleQueue[bool]]:
    """A queue that says when to look at the terminal's size, and with False when to stop looking."""
    changes: queue.SimpleQueue[bool] = queue.SimpleQueue()  # a signal handler may put something there at any moment

    def follow() -> None:
        known = None
        while changes.get():
            if (now := size()) != known:
                process.resize(*now)
                known = now

    def quietly() -> None:
        with suppress(aegis.AegisError, OSError):  # who waits for the process says what is wrong
            follow()

    threading.Thread(target=quietly, daemon=True).start()
    try:
        yield changes
    finally:
        changes.put(False)


@contextmanager
def _handling(number: int, handler: _Handler) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
