"""``aegis secret``: values for guests, encrypted, which nothing shows again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import attrs
import click

import aegis_sdk as aegis
from aegis_cli import words
from aegis_cli.commands import Commands

_as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
#: More than a secret may have, so that who gives more is told and not cut.
_MOST = 1 << 20


def _value_options(command: Callable[..., Any]) -> Callable[..., Any]:
    from_file = click.option(
        "--from-file", type=click.File("rb"), metavar="FILE", help="Read the value from FILE, all that is in it."
    )
    value = click.option("--value", help="The value; others on this machine can see it while this runs.")
    return from_file(value(command))


@click.group(cls=Commands)
def secret() -> None:
    """Keep values for guests, as environment variables.

    A value is asked for, without echo, on a terminal, and else read from standard input.
    """


@secret.command("set")
@_value_options
@click.argument("app")
@click.argument("name", metavar="KEY")
def set_(*, app: str, name: str, value: str | None, from_file: BinaryIO | None) -> None:
    """Keep secret KEY for the guests of APP, a name or an ID."""
    found = aegis.App.get(app, engine=aegis.engine_of_home())  # before anybody is asked for a value
    found.secrets[name] = _value(name, value, from_file)


@secret.command("list")
@_as_json
@click.argument("app")
def list_(*, app: str, as_json: bool) -> None:
    """Show the names of APP's secrets."""
    _show(aegis.Secret.list(app=app, engine=aegis.engine_of_home()), as_json=as_json)


@secret.command()
@click.argument("app")
@click.argument("name", metavar="KEY")
def delete(*, app: str, name: str) -> None:
    """Forget secret KEY of APP."""
    del aegis.App.get(app, engine=aegis.engine_of_home()).secrets[name]


@secret.command()
@_value_options
@click.argument("name", metavar="KEY")
def set_workspace(*, name: str, value: str | None, from_file: BinaryIO | None) -> None:
    """Keep secret KEY for the guests of all apps, but those that have their own KEY."""
    aegis.Secret.set(name, _value(name, value, from_file), engine=aegis.engine_of_home())


@secret.command()
@_as_json
def list_workspace(*, as_json: bool) -> None:
    """Show the names of the secrets of all apps."""
    _show(aegis.Secret.list(engine=aegis.engine_of_home()), as_json=as_json)


@secret.command()
@click.argument("name", metavar="KEY")
def delete_workspace(*, name: str) -> None:
    """Forget secret KEY of all apps."""
    aegis.Secret.get(name, engine=aegis.engine_of_home()).delete()


@secret.command()
@_as_json
def rotate_key(*, as_json: bool) -> None:
    """Encrypt all secrets with a new key, and forget the old one."""
    count = aegis.Secret.rotate_key(engine=aegis.engine_of_home())
    if as_json:
        _print_json({"secrets": count})
    else:
        click.echo(f"{count} secret{'' if count == 1 else 's'} encrypted with a new key")


def _value(name: str, value: str | None, from_file: BinaryIO | None) -> str | bytes:
    if value is not None and from_file is not None:
        raise click.UsageError("--value and --from-file cannot be used together.")
    if value is not None:
        return value
    if from_file is not None:
        return from_file.read(_MOST)
    if sys.stdin.isatty():
        return str(click.prompt(f"Value of {name}", hide_input=True, err=True))
    return _from_stdin()


def _from_stdin() -> bytes:
    given = sys.stdin.buffer.read(_MOST)
    if not given:  # as where a program was started without one: not to be taken for a value
        raise click.UsageError("Standard input is empty: give the value there, or with --from-file or --value ''.")
    return given.removesuffix(b"\n")


def _show(secrets: Sequence[aegis.Secret], *, as_json: bool) -> None:
    if as_json:
        _print_json([attrs.asdict(secret.info) for secret in secrets])
    else:
        words.table(("NAME", "SET"), [(secret.name, words.ago(secret.info.updated)) for secret in secrets])


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))
