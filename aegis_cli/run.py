"""``aegis run``: one command in a fresh guest."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress

import click

import aegis_sdk as aegis

_TIMED_OUT = 124
_CHUNK = 1 << 16
# Longer than a command has between SIGTERM and SIGKILL.
_LAST_OUTPUT = 15.0
_AFTER_CTRL_C = 5.0
_FILES = {"stdout": 1, "stderr": 2}


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable of the command's environment.")
@click.option("--cwd", metavar="DIR", help="The directory that the command starts in.")
@click.option("--user", metavar="USER[:GROUP]", help="Whom the command runs as: names or numbers; root by default.")
@click.option("--timeout", type=float, metavar="SECONDS", help="End the command after that time, and exit with 124.")
@click.option("--memory", type=int, default=512, show_default=True, metavar="MIB", help="The guest's memory.")
@click.option("--cpus", type=int, default=1, show_default=True, metavar="N", help="The guest's processors.")
@click.option("--writable", is_flag=True, help="Let the command write everywhere; what it writes is thrown away.")
@click.option("--driver", metavar="NAME", help="What boots the guest: auto or qemu.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    *,
    env: Sequence[str],
    cwd: str | None,
    user: str | None,
    timeout: float | None,
    memory: int,
    cpus: int,
    writable: bool,
    driver: str | None,
    command: Sequence[str],
) -> int:
    """Run COMMAND in a fresh guest, and exit with its exit code.

    124: it timed out. 125: Aegis itself failed. 126, 127: it cannot be executed, or there is no such command.
    128 + N: signal N ended it.
    """
    environment = dict(_variable(word) for word in env)
    if timeout is not None and not timeout > 0:
        raise click.BadParameter("it must be more than 0 seconds", param_hint="--timeout")
    with (
        aegis.Sandbox(memory=memory, cpus=cpus, writable=writable, driver=driver) as vm,
        vm.start(*command, stdin=True, env=environment, cwd=cwd, user=user) as process,
    ):
        threading.Thread(target=_feed, args=(process,), daemon=True).start()
        return _attend(process, timeout)


def _variable(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{word!r} is not NAME=VALUE", param_hint="--env")
    return name, value


def _attend(process: aegis.Process, timeout: float | None) -> int:
    """Pass the output on to the end; the exit code of ``aegis run``."""
    try:
        _show(process, timeout)
        return process.wait()
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except TimeoutError:
        click.echo(f"aegis: timed out after {timeout:g} s", err=True)
        process.end()
        _show(process, _LAST_OUTPUT)
        return _TIMED_OUT
    except KeyboardInterrupt:
        process.kill(signal.SIGINT)
        with suppress(TimeoutError):  # if it will not go, its guest goes now
            _show(process, _AFTER_CTRL_C)
        return 128 + signal.SIGINT


def _show(process: aegis.Process, timeout: float | None) -> None:
    for stream, piece in process.output(timeout):
        _write(_FILES[stream], piece)


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(file, left) :]
        except BlockingIOError:  # somebody else made our terminal or pipe non-blocking
            select.select([], [file], [])


def _feed(process: aegis.Process) -> None:
    """Pass standard input on, until there is no more or nobody takes it."""
    try:
        while data := _read():
            process.write(data)
        process.close_stdin()
    except aegis.AegisError:
        pass  # the thread that waits for the process says it


def _read() -> bytes:
    try:
        return b"" if _in_background() else os.read(0, _CHUNK)
    except OSError:
        return b""  # there is no standard input


def _in_background() -> bool:
    """Whether standard input is a terminal that would stop us if we read from it."""
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:
        return False  # no terminal, or not ours
