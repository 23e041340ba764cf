"""``aegis task``: what runs, waits for its turn, or has ended, and what it has said."""

from __future__ import annotations

import datetime as dt
import json

import attrs
import click

import aegis_sdk as aegis
from aegis_cli import words
from aegis_cli.attend import write
from aegis_cli.commands import Commands
from aegis_cli.logs import chosen, network_option
from aegis_cli.run import FAILED, ended_badly

_as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_STATES = [state.value for state in aegis.TaskState]
_FILES = {"stdout": 1}  # all else goes to standard error


@click.group(cls=Commands)
def task() -> None:
    """Show, follow and cancel tasks; `aegis run` makes them. An ID may be shortened as long as no other begins so."""


@task.command("list")
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="Show only those in that state.")
@_as_json
def list_(*, state: str | None, as_json: bool) -> None:
    """Show the tasks on record, the newest last."""
    infos = [info for info in aegis.engine_of_home().tasks.list() if state in (None, info.state)]
    if as_json:
        click.echo(json.dumps([attrs.asdict(info) for info in infos]))
        return
    rows = [(info.id, info.state, words.ago(info.created), info.image, _command(info)) for info in infos]
    words.table(("ID", "STATE", "SUBMITTED", "IMAGE", "COMMAND"), rows)


@task.command()
@_as_json
@click.argument("id")
def info(*, id: str, as_json: bool) -> None:
    """Show what a task is, and how it has ended."""
    found = _task(id).info()
    if as_json:
        click.echo(json.dumps(attrs.asdict(found)))
        return
    for name, value in attrs.asdict(attrs.evolve(found, command=(_command(found),))).items():
        if value not in (None, ""):
            shown = value[0] if name == "command" else _moment(value) if name in _TIMES else value
            click.echo(f"{name:9} {words.printable(str(shown))}")


@task.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--since", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N entries.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Show only the last N entries that are there.")
@click.option("--timestamps", is_flag=True, help="Put the time and the source before each line.")
@network_option
@click.argument("id")
def logs(*, id: str, follow: bool, since: int, tail: int | None, timestamps: bool, network: bool) -> None:
    """Show what a task has said: its output on standard output, all else on standard error."""
    started: dict[str, bool] = {}  # whether a source is in the middle of a line
    for entry in chosen(_task(id).logs, network=network, follow=follow, since=since, tail=tail):
        head = b""
        if timestamps and not started.get(entry.source):
            head = f"{_moment(entry.time)} {entry.source} ".encode()
        elif entry.source == "system":
            head = b"aegis: "
        started[entry.source] = not entry.data.endswith(b"\n")
        write(_FILES.get(entry.source, 2), head + entry.data)


@task.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
def cancel(*, ids: tuple[str, ...]) -> None:
    """Have tasks end: SIGTERM, and SIGKILL 5 s later. Fine if they have ended."""
    for found in list(map(_task, ids)):
        found.cancel()
        click.echo(found.id)


@task.command()
@click.argument("id")
def wait(*, id: str) -> int:
    """Wait for a task's end, and exit with its command's exit code.

    124: it timed out. 125: it was cancelled, or Aegis itself failed.
    """
    found = _task(id).wait()
    if code := ended_badly(found):
        return code
    if found.exit_code is None:
        words.say(f"aegis: {found.reason}")
        return FAILED
    return found.exit_code


_TIMES = ("created", "started", "ended")


def _task(id: str) -> aegis.Task:
    return aegis.Task.get(id, engine=aegis.engine_of_home())


def _command(info: aegis.TaskInfo) -> str:
    return " ".join(info.command) or "(the image's own)"


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone().isoformat(timespec="milliseconds")
