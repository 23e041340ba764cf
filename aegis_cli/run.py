"""``aegis run``: one command in a fresh guest, which is a task."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import IO

import click

import aegis_sdk as aegis
from aegis_cli import terminal
from aegis_cli.attend import attend
from aegis_cli.guest_options import Guest, guest_options
from aegis_cli.network_log import written
from aegis_cli.words import say

#: What a task that ran out of time comes to, and one that Aegis has failed or somebody has cancelled.
TIMED_OUT, FAILED = 124, 125
_USUAL = 900.0
_GLANCE = 0.1
_PATIENCE = 1.0  # seconds until one who waits is told what for


class _Limit(click.ParamType[float]):
    """Seconds, or ``none``."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = math.inf if value == "none" else float(str(value))
        except ValueError:
            self.fail(f"{value!r} is neither a number of seconds nor 'none'", param, ctx)
        if not seconds > 0:
            self.fail("it must be more than 0 seconds", param, ctx)
        return seconds


@click.command(context_settings={"allow_interspersed_args": False})
@guest_options
@click.option(
    "-i", "--interactive", is_flag=True, expose_value=False, help="Pass standard input on, which is done anyway."
)
@click.option("-t", "--tty", is_flag=True, help="Give the command this terminal: as in `aegis run -it vi /tmp/x`.")
@click.option("-d", "--detach", is_flag=True, help="Print the task's ID, and leave it to the daemon.")
@click.option(
    "--expose",
    multiple=True,
    metavar="PORT[/tcp]",
    help="Have that port of it be reached while it runs; HTTP by the router, or LOCAL:PORT/tcp.",
)
@click.option(
    "--network-log",
    type=click.File("w", encoding="utf-8", lazy=False),
    metavar="FILE",
    help="Write there what the guest tried to reach, each attempt a line of JSON.",
)
@click.option("--app", metavar="APP", help="Run it with the secrets and the workspace of that app.")
@click.option(
    "--timeout",
    type=_Limit(),
    metavar="SECONDS|none",
    help="End the command after that time, and exit with 124: 900 s, but none with -t.",
)
@click.option("--image", default="base", show_default=True, metavar="REF", help="The image, as for `docker run`.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(
    *,
    guest: Guest,
    tty: bool,
    detach: bool,
    expose: Sequence[str],
    network_log: IO[str] | None,
    app: str | None,
    timeout: float | None,
    image: str,
    command: Sequence[str],
) -> int:
    """Run COMMAND in a fresh guest, and exit with its exit code; without one, the command of the image.

    124: it timed out. 125: Aegis itself failed. 126, 127: it cannot be executed, or there is no such command.
    128 + N: signal N ended it.
    """
    limit = (math.inf if tty else _USUAL) if timeout is None else timeout
    seconds = None if limit == math.inf else limit
    if detach:
        if tty:
            raise click.UsageError(
                "A command that is left to itself has no terminal: -t and --detach exclude each other."
            )
        if network_log:
            raise click.UsageError("What is left to itself has its log: `aegis task logs --network ID`.")
        engine = aegis.connect()
        click.echo(guest.submit(*command, image=image, expose=expose, app=app, timeout=seconds, engine=engine).id)
        return 0
    if tty:
        terminal.required("-t")
    engine = aegis.engine_of_home()
    pulled = guest.image(image, engine=engine)
    if not command and not pulled.info.config.entrypoint + pulled.info.config.command:
        raise click.UsageError(f"No command was given, and the image {image} has none of its own.")
    size = terminal.size() if tty else False
    task = guest.submit(
        *command, image=pulled, expose=expose, app=app, timeout=seconds, attached=True, tty=size, engine=engine
    )
    with written(task, network_log) if network_log else nullcontext():
        return _attended(task, tty=tty, exposed=bool(expose))


def _attended(task: aegis.Task, *, tty: bool, exposed: bool) -> int:
    with task.process as process, _told_of_queue(task), _told_of_addresses(task) if exposed else nullcontext():
        try:
            code = attend(process, tty=tty, tried=task.network_events)
        except aegis.TaskFailed:
            if task.state is not aegis.TaskState.TIMED_OUT:
                raise
            code = TIMED_OUT
        return ended_badly(task.info()) or code


@contextmanager
def _told_of_queue(task: aegis.Task) -> Iterator[None]:
    """Say why nothing happens, if other tasks have to end first."""
    timer = threading.Timer(_PATIENCE, _tell_of_queue, (task,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell_of_queue(task: aegis.Task) -> None:
    with suppress(aegis.AegisError):  # the thread that waits for the task says it
        if task.state is aegis.TaskState.QUEUED:
            say("aegis: waiting for other tasks to end (`aegis task list`)")


@contextmanager
def _told_of_addresses(task: aegis.Task) -> Iterator[None]:
    """Say where the task is reached, as soon as it is."""
    over = threading.Event()
    teller = threading.Thread(target=_tell_of_addresses, args=(task, over), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _tell_of_addresses(task: aegis.Task, over: threading.Event) -> None:
    with suppress(aegis.AegisError):  # as above
        while (info := task.info()).state is aegis.TaskState.QUEUED:
            if over.wait(_GLANCE):
                return
        for address in (info.url, *(f"{at} ({port})" for port, at in info.addresses.items())):
            if address:
                say(f"aegis: {address}")


def ended_badly(info: aegis.TaskInfo) -> int:
    """The exit code for a task that was ended, which is said on standard error; 0 for one that has ended, or runs."""
    if info.state is aegis.TaskState.TIMED_OUT:
        say(f"aegis: timed out after {info.timeout:g} s")
        return TIMED_OUT
    if info.state is aegis.TaskState.CANCELLED:
        say(f"aegis: {info.reason}")
        return FAILED
    return 0
