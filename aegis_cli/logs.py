"""``aegis logs``: what the daemon has kept of what a guest said."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Iterator

import click

import aegis_sdk as aegis
from aegis_cli.words import printable

_LINE_END = "\r\n"  # which a console writes


#: Who reads a log for what was said asks for what was tried to be reached, of which there may be much more.
network_option = click.option("--network", is_flag=True, help="Show what it tried to reach, too, as JSON.")


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the guest ends, or Ctrl-C.")
@click.option("--since", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N entries.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Show only the last N entries that are there.")
@click.option("--timestamps", is_flag=True, help="Put the time before each line.")
@network_option
@click.argument("name")
def logs(*, follow: bool, since: int, tail: int | None, timestamps: bool, network: bool, name: str) -> None:
    """Show the log of the guest NAME: its console (boot), and what was done with it (system)."""
    vm = aegis.Sandbox.get(name, engine=aegis.connect())
    for entry in chosen(vm.history, network=network, follow=follow, since=since, tail=tail):
        show(entry, timestamps=timestamps)


def chosen(
    read: Callable[..., Iterator[aegis.LogEntry]], *, network: bool, follow: bool, since: int, tail: int | None
) -> Iterator[aegis.LogEntry]:
    """The entries that *read* gives for such words; those of the network only if they are asked for, nor counted."""
    if network or tail is None:
        found = read(follow=follow, since=since, tail=tail)
        yield from (entry for entry in found if network or entry.source != "network")
        return
    kept: deque[aegis.LogEntry] = deque(maxlen=tail)
    for entry in read(since=since):
        since = entry.sequence
        if entry.source != "network":
            kept.append(entry)
    yield from kept
    if follow:
        yield from chosen(read, network=False, follow=True, since=since, tail=None)


def show(entry: aegis.LogEntry, *, timestamps: bool) -> None:
    """Print one entry of a log, on one line."""
    moment = dt.datetime.fromtimestamp(entry.time, dt.UTC).astimezone().isoformat(timespec="milliseconds")
    words = f"{entry.source:6} {printable(entry.text.rstrip(_LINE_END))}"
    click.echo(f"{moment} {words}" if timestamps else words)
