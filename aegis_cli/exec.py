"""``aegis exec``: one command in a guest that is there."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

import aegis_sdk as aegis
from aegis_cli import named, terminal
from aegis_cli.attend import attend
from aegis_cli.guest_options import Manner, command_options


@click.command("exec", context_settings={"allow_interspersed_args": False})
@command_options
@click.option(
    "-i", "--interactive", is_flag=True, expose_value=False, help="Pass standard input on, which is done anyway."
)
@click.option("-t", "--tty", is_flag=True, help="Give the command this terminal.")
@click.option("--timeout", type=float, metavar="SECONDS", help="End the command after that time, and exit with 124.")
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(*, manner: Manner, tty: bool, timeout: float | None, name: str, command: Sequence[str]) -> int:
    """Run COMMAND in the guest NAME of the daemon's, and exit with its exit code, as `aegis run` does.

    NAME is a sandbox, or an app, which is woken first. The guest runs on, also if this command is ended: then COMMAND
    ends alone.
    """
    command = command[command[0] == "--" :]
    if not command:
        raise click.UsageError("No command was given.")
    if timeout is not None and not timeout > 0:
        raise click.BadParameter("it must be more than 0 seconds", param_hint="--timeout")
    if tty:
        terminal.required("-t")
    vm = named.guest(name)
    began = time.time()
    with manner.start(vm, *command, tty=terminal.size() if tty else False) as process:
        return attend(process, tty=tty, timeout=timeout, tried=lambda: _since(began, vm.network.events()))


def _since(began: float, events: Sequence[aegis.NetworkEvent]) -> list[aegis.NetworkEvent]:
    return [event for event in events if event.time >= began]
