"""``aegis plugins``: what extends Aegis here, and what tried to."""

from __future__ import annotations

import json

import attrs
import click

import aegis_sdk as aegis
from aegis_cli.words import printable


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def plugins(*, as_json: bool) -> None:
    """Show the plugins, built-in ones first, and why one of them does not work."""
    found = aegis.list_plugins()
    if as_json:
        click.echo(json.dumps([attrs.asdict(plugin) for plugin in found], indent=2))
        return
    for plugin in found:
        _show(plugin)


def _show(plugin: aegis.PluginInfo) -> None:
    word, colour = ("failed", "red") if plugin.error else ("ok", "green")
    name = printable(f"{plugin.name} {plugin.version}".strip())
    click.echo(f"{click.style(f'{word:7}', fg=colour)} {name}  from {printable(plugin.origin)}")
    if plugin.provides:
        click.echo(f"{'':7} gives {printable(', '.join(plugin.provides))}")
    if plugin.error:
        click.echo(f"{'':7} {printable(plugin.error)}")
