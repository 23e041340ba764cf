"""``aegis app serve`` and ``aegis app logs``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial

import attrs
import click

import aegis_sdk as aegis
from aegis_cli.logs import chosen, network_option, show
from aegis_cli.progress import progress_on_stderr
from aegis_cli.words import say


@click.command()
@click.option("--release", metavar="LABEL|ID", help="Which of its releases is to serve; the newest by default.")
@click.option("--beside", is_flag=True, help="Have what serves it now serve on, for routing policies to choose.")
@click.option("-d", "--detach", is_flag=True, help="Print its address, and leave it to the daemon.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.option("--json", "as_json", is_flag=True, help="Print what serves as JSON, on one line, and so each of the log.")
@click.argument("app")
def serve(*, release: str | None, beside: bool, detach: bool, quiet: bool, as_json: bool, app: str) -> None:
    """Serve APP, and show what it says until Ctrl-C, which stops it.

    If it was served by that release before, it serves on after Ctrl-C. Without a daemon it is served by this program.
    """
    found = aegis.App.get(app, engine=aegis.connect() if detach else aegis.engine_of_home())
    wanted = _wanted(found, release)
    ours = not detach and wanted not in {one.release for one in found.instances()}
    with _stopping(found, wanted) if ours else nullcontext():
        began = time.time()
        with progress_on_stderr(quiet=quiet) as progress:
            instance = found.serve(release=wanted, beside=beside, progress=progress)
        _announce(instance, as_json=as_json, to_stdout=detach)
        said = chosen(instance.logs, network=False, follow=True, since=0, tail=None)
        for entry in () if detach else said:
            if entry.time >= began:
                _print(entry, as_json=as_json, timestamps=False)


@click.command()
@click.option("--release", metavar="LABEL|ID", help="Of which release; by default that which serves, or did last.")
@click.option("-f", "--follow", is_flag=True, help="Go on until it is served no more, or Ctrl-C.")
@click.option("--since", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N entries.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Show only the last N entries that are there.")
@click.option("--timestamps", is_flag=True, help="Put the time before each line.")
@network_option
@click.option("--json", "as_json", is_flag=True, help="Print each entry as JSON, on one line.")
@click.argument("app")
def logs(
    *,
    release: str | None,
    follow: bool,
    since: int,
    tail: int | None,
    timestamps: bool,
    network: bool,
    as_json: bool,
    app: str,
) -> None:
    """Show what serves APP: its console (boot), its output (server, exec), and what became of it (system)."""
    if timestamps and as_json:
        raise click.UsageError("With --json each entry has its time anyway: leave out --timestamps.")
    found = aegis.App.get(app, engine=aegis.engine_of_home())
    read = partial(found.logs, release=release)
    for entry in chosen(read, network=network, follow=follow, since=since, tail=tail):
        _print(entry, as_json=as_json, timestamps=timestamps)


def _wanted(app: aegis.App, release: str | None) -> str | None:
    """The ID of the release that is meant; what is none stays as it is, to be refused."""
    known = {name: one.id for one in app.releases() for name in (one.label, one.id, None)}
    return known.get(release, release)


@contextmanager
def _stopping(app: aegis.App, release: str | None) -> Iterator[None]:
    """Have what the block has begun to serve end with it, also if that is cut short."""
    try:
        yield
    finally:
        if release:
            app.stop(release=release)


def _announce(instance: aegis.Instance, *, as_json: bool, to_stdout: bool) -> None:
    info = instance.info()
    if as_json:
        plain = attrs.asdict(
            info, value_serializer=lambda _, __, part: dict(part) if isinstance(part, Mapping) else part
        )
        click.echo(json.dumps(plain))
        return
    where = [address for address in (info.url, *info.addresses.values()) if address]
    if to_stdout:
        click.echo("\n".join(where))
    else:
        say(f"aegis: release {info.label or info.release} of app {info.name} is served at {', '.join(where)}")


def _print(entry: aegis.LogEntry, *, as_json: bool, timestamps: bool) -> None:
    if as_json:
        said = {"sequence": entry.sequence, "time": entry.time, "source": entry.source, "text": entry.text}
        click.echo(json.dumps(said))
    else:
        show(entry, timestamps=timestamps)
