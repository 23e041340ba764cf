"""``aegis app``: what has a name, secrets and a workspace of its own."""

from __future__ import annotations

import json

import attrs
import click

import aegis_sdk as aegis
from aegis_cli import words
from aegis_cli.commands import Commands

_as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group(cls=Commands)
def app() -> None:
    """Create, show and delete apps."""


@app.command()
@click.option("--name", required=True, help="Up to 63 lower-case letters, digits and hyphens.")
@_as_json
def create(*, name: str, as_json: bool) -> None:
    """Put a new app on record."""
    _show(aegis.App.create(name, engine=aegis.engine_of_home()).info, as_json=as_json)


@app.command("list")
@_as_json
def list_(*, as_json: bool) -> None:
    """Show the apps that there are."""
    infos = [found.info for found in aegis.App.list(engine=aegis.engine_of_home())]
    if as_json:
        _print_json([attrs.asdict(info) for info in infos])
    else:
        words.table(("NAME", "ID", "CREATED"), [(info.name, info.id, words.ago(info.created)) for info in infos])


@app.command()
@_as_json
@click.argument("app")
def info(*, app: str, as_json: bool) -> None:
    """Show ID and workspace of APP, a name or an ID."""
    _show(aegis.App.get(app, engine=aegis.engine_of_home()).info, as_json=as_json)


@app.command()
@click.option("--workspace", is_flag=True, help="Delete its workspace, too, with all files in it.")
@_as_json
@click.argument("app")
def delete(*, app: str, workspace: bool, as_json: bool) -> None:
    """Forget APP, a name or an ID, and its secrets."""
    found = aegis.App.get(app, engine=aegis.engine_of_home())
    found.delete(workspace=workspace)
    if as_json:
        _print_json({"deleted": found.id, "workspace": workspace})
    elif workspace:
        click.echo(f"deleted app {found.name} and its workspace")
    else:
        stays = words.printable(found.info.workspace)
        click.echo(f"deleted app {found.name}; its workspace, if it has one, stays: {stays}")


def _show(info: aegis.AppInfo, *, as_json: bool) -> None:
    if as_json:
        _print_json(attrs.asdict(info))
        return
    click.echo(f"name       {info.name}")
    click.echo(f"id         {info.id}")
    click.echo(f"created    {words.ago(info.created)}")
    click.echo(f"workspace  {words.printable(info.workspace)}")


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))
