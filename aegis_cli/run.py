"""``aegis run``: one command in a fresh guest."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

import click

import aegis_sdk as aegis
from aegis_cli.advice import Advice
from aegis_cli.progress import progress_on_stderr
from aegis_cli.volume import mounts as volumes

_TIMED_OUT = 124
_CHUNK = 1 << 16
# Longer than a command has between SIGTERM and SIGKILL.
_LAST_OUTPUT = 15.0
_AFTER_CTRL_C = 5.0
_FILES = {"stdout": 1, "stderr": 2}


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable of the command's environment.")
@click.option("--cwd", metavar="DIR", help="The directory that the command starts in.")
@click.option(
    "--user", metavar="USER[:GROUP]", help="Whom the command runs as: names or numbers; the image's user by default."
)
@click.option("--timeout", type=float, metavar="SECONDS", help="End the command after that time, and exit with 124.")
@click.option("--memory", type=int, default=512, show_default=True, metavar="MIB", help="The guest's memory.")
@click.option("--cpus", type=int, default=1, show_default=True, metavar="N", help="The guest's processors.")
@click.option("--disk", type=int, metavar="MIB", help="What files may take in it; they are in its memory.")
@click.option("--processes", type=int, metavar="N", help="How many processes may run in it.")
@click.option(
    "-v", "--volume", multiple=True, metavar="SOURCE:TARGET[:ro]", help="Show it a directory of this machine."
)
@click.option("--writable", is_flag=True, help="Let the command write everywhere; what it writes is thrown away.")
@click.option("--nested", is_flag=True, help="Give the guest a /dev/kvm: it can run machines of its own.")
@click.option("--driver", metavar="NAME", help="What boots the guest: auto, libkrun or qemu.")
@click.option("--image", default="base", show_default=True, metavar="REF", help="The image, as for `docker run`.")
@click.option(
    "--pull",
    type=click.Choice(["always", "missing", "never"]),
    default="missing",
    show_default=True,
    help="When to ask the image's registry.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress of the image.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(
    *,
    env: Sequence[str],
    cwd: str | None,
    user: str | None,
    timeout: float | None,
    memory: int,
    cpus: int,
    disk: int | None,
    processes: int | None,
    volume: Sequence[str],
    writable: bool,
    nested: bool,
    driver: str | None,
    image: str,
    pull: str,
    quiet: bool,
    command: Sequence[str],
) -> int:
    """Run COMMAND in a fresh guest, and exit with its exit code; without one, the command of the image.

    124: it timed out. 125: Aegis itself failed. 126, 127: it cannot be executed, or there is no such command.
    128 + N: signal N ended it.
    """
    environment = dict(_variable(word) for word in env)
    if timeout is not None and not timeout > 0:
        raise click.BadParameter("it must be more than 0 seconds", param_hint="--timeout")
    mounts = volumes(volume)
    with progress_on_stderr(quiet=quiet or image == "base") as progress:  # which is made here in a moment
        pulled = aegis.Image.pull(image, policy=pull, progress=progress)
    if not command and not pulled.info.config.entrypoint + pulled.info.config.command:
        raise click.UsageError(f"No command was given, and the image {image} has none of its own.")
    with (
        aegis.Sandbox(
            pulled,
            memory=memory,
            cpus=cpus,
            disk=disk,
            processes=processes,
            mounts=mounts,
            writable=writable,
            nested=nested,
            driver=driver,
        ) as vm,
        vm.start(*command, stdin=True, env=environment, cwd=cwd, user=user) as process,
        _Limit(vm, process, timeout) as limit,
    ):
        threading.Thread(target=_feed, args=(process,), daemon=True).start()
        return _attend(process, limit)


class _Limit:
    """A command's time limit, which holds even while nobody takes its output."""

    def __init__(self, vm: aegis.Sandbox, process: aegis.Process, seconds: float | None) -> None:
        self._vm, self._process = vm, process
        self._over = threading.Event()
        self.seconds = seconds
        self.reached = False

    def __enter__(self) -> Self:
        if self.seconds is not None and self.seconds <= threading.TIMEOUT_MAX:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        if self._over.wait(self.seconds):
            return
        self.reached = True
        try:
            self._process.end()
        except aegis.AegisError:
            self._vm.close()
        if not self._over.wait(_LAST_OUTPUT):
            self._vm.close()


def _variable(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{word!r} is not NAME=VALUE", param_hint="--env")
    return name, value


def _attend(process: aegis.Process, limit: _Limit) -> int:
    """Pass the output on to the end; the exit code of ``aegis run``."""
    advice = Advice()
    try:
        _show(process, hear=advice.hear)
        code = process.wait()
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except aegis.AegisError:
        if not limit.reached:
            raise
        code = _TIMED_OUT
    except KeyboardInterrupt:
        process.kill(signal.SIGINT)
        with suppress(TimeoutError):  # if it will not go, its guest goes now
            _show(process, _AFTER_CTRL_C)
        return 128 + signal.SIGINT
    if limit.reached:
        click.echo(f"aegis: timed out after {limit.seconds:g} s", err=True)
        return _TIMED_OUT
    advice.give(process, code)
    return code


def _show(
    process: aegis.Process, timeout: float | None = None, *, hear: Callable[[str, bytes], None] = lambda *_: None
) -> None:
    for stream, piece in process.output(timeout):
        _write(_FILES[stream], piece)
        hear(stream, piece)


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
    while not _in_background():
        try:
            return os.read(0, _CHUNK)
        except BlockingIOError:  # somebody else made our terminal or pipe non-blocking
            select.select([0], [], [])
        except OSError as error:
            click.echo(f"aegis: standard input cannot be read: {error.strerror}", err=True)
            break
    return b""


def _in_background() -> bool:
    """Whether standard input is a terminal that would stop us if we read from it."""
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:
        return False  # no terminal, or not ours
