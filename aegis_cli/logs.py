"""``aegis logs``: what the daemon has kept of what a guest said."""

from __future__ import annotations

import datetime as dt

import click

import aegis_sdk as aegis
from aegis_cli.words import printable

_LINE_END = "\r\n"  # which a console writes


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the guest ends, or Ctrl-C.")
@click.option("--since", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N entries.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Show only the last N entries that are there.")
@click.option("--timestamps", is_flag=True, help="Put the time before each line.")
@click.argument("name")
def logs(*, follow: bool, since: int, tail: int | None, timestamps: bool, name: str) -> None:
    """Show the log of the guest NAME: its console (boot), and what was done with it (system)."""
    vm = aegis.Sandbox.get(name, engine=aegis.connect())
    for entry in vm.history(follow=follow, since=since, tail=tail):
        moment = dt.datetime.fromtimestamp(entry.time, dt.UTC).astimezone().isoformat(timespec="milliseconds")
        words = f"{entry.source:6} {printable(entry.text.rstrip(_LINE_END))}"
        click.echo(f"{moment} {words}" if timestamps else words)
