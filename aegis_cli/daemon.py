"""``aegis up``, ``down`` and ``status``: the daemon of this home."""

from __future__ import annotations

import json
import os
import sys

import attrs
import click

import aegis_sdk as aegis
from aegis_cli import units, words

_STOPPED = 3


@click.command()
@click.option("--foreground", is_flag=True, help="Run it here, until Ctrl-C.")
@click.option("--print-unit", is_flag=True, help="Print what has systemd, or launchd on macOS, run it; start nothing.")
def up(*, foreground: bool, print_unit: bool) -> None:
    """Start the daemon, which runs sandboxes and tasks beyond the command that made them. Fine if it runs."""
    if foreground and print_unit:
        raise click.UsageError("--foreground and --print-unit exclude each other.")
    daemon = aegis.Daemon()
    if print_unit:
        click.echo(units.unit(daemon, sys.platform), nl=False)
    elif foreground:
        os.execve(daemon.command[0], daemon.command, {**os.environ, **daemon.settings})
    else:
        status = daemon.start()
        click.echo(f"aegisd {status.version} runs as process {status.pid}")


@click.command()
@click.option("--keep", is_flag=True, help="Have the kept sandboxes that run now started again by the next `aegis up`.")
def down(*, keep: bool) -> None:
    """End the daemon, with all guests that it runs. Fine if it does not run."""
    ended = aegis.Daemon().stop(keep=keep)
    click.echo("aegisd has ended" if ended else "aegisd does not run")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def status(*, as_json: bool) -> int:
    """Show how the daemon is; exit with 3 if it does not run."""
    found = aegis.Daemon().status()
    if as_json:
        click.echo(json.dumps({"running": found is not None, **(attrs.asdict(found) if found else {})}, indent=2))
    elif found:
        _show(found)
    else:
        click.echo("aegisd does not run; `aegis up` starts it")
    return 0 if found else _STOPPED


def _show(found: aegis.DaemonStatus) -> None:
    click.echo(
        f"aegisd {words.printable(found.version)} runs as process {found.pid}, started {words.ago(found.started)}"
    )
    click.echo(f"home       {words.printable(found.home)}")
    click.echo(f"router     {words.printable(found.router or found.router_fault)}")
    click.echo(f"sandboxes  {found.sandboxes} running")
    click.echo(f"tasks      {found.running_tasks} running, {found.queued_tasks} queued")
