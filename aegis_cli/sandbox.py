"""``aegis sandbox``: guests that the daemon keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
import click

import aegis_sdk as aegis
from aegis_cli import words
from aegis_cli.commands import Commands
from aegis_cli.guest_options import Machine, machine_options

_as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group(cls=Commands)
def sandbox() -> None:
    """Make, show and end guests that outlive their program; the daemon keeps them (`aegis up`)."""


@sandbox.command()
@click.option("--name", help="Up to 63 lower-case letters, digits and hyphens.")
@click.option(
    "--expose",
    multiple=True,
    metavar="PORT",
    help="Have a port of it be reached, as by `aegis sandbox expose`, until it ends.",
)
@machine_options
@_as_json
@click.argument("image", default="base")
def create(*, name: str | None, expose: Sequence[str], machine: Machine, as_json: bool, image: str) -> None:
    """Boot a guest of IMAGE that is kept until it is removed, and print its name, or its ID if it has none."""
    ports = [aegis.Port.of(port) for port in expose]
    made = machine.boot(machine.image(image, engine=aegis.connect()), name=name, keep=True)
    with _removed_on_error(made):
        addresses = [_exposed(made, port) for port in ports]
    if as_json:
        _print_json(_described(made.info()))
    else:
        click.echo(made.name or made.id)
        for address in addresses:
            words.say(f"aegis: {address}")


@sandbox.command("list")
@_as_json
def list_(*, as_json: bool) -> None:
    """Show the guests that the daemon has, also those that hang on a program that runs."""
    infos = [found.info() for found in aegis.Sandbox.list(engine=aegis.connect())]
    if as_json:
        _print_json([_described(info) for info in infos])
        return
    rows = [(info.name or "", info.id, info.image, info.state, words.ago(info.created)) for info in infos]
    words.table(("NAME", "ID", "IMAGE", "STATE", "CREATED"), rows)


@sandbox.command()
@_as_json
@click.argument("name")
def info(*, as_json: bool, name: str) -> None:
    """Show what is known of the guest NAME, which may be its ID."""
    found = _get(name).info()
    if as_json:
        _print_json(_described(found))
        return
    for title, value in _facts(found):
        click.echo(f"{title:13} {words.printable(value)}")


@sandbox.command()
@click.option(
    "--grace", type=float, default=5.0, show_default=True, metavar="SECONDS", help="What it may take; 0 is at once."
)
@click.argument("name")
def stop(*, grace: float, name: str) -> None:
    """End the guest NAME in order; what is in its memory, its files included, is gone. `start` boots it again."""
    _get(name).stop(grace)


@sandbox.command()
@click.argument("name")
def start(*, name: str) -> None:
    """Boot the guest NAME again, as it was asked for at first; fine if it runs."""
    _get(name).boot()


@sandbox.command()
@click.argument("name")
@click.argument("ports", nargs=-1, required=True, metavar="PORT...")
def expose(*, name: str, ports: Sequence[str]) -> None:
    """Have ports of the guest NAME be reached from this machine until it ends, and print where.

    PORT is for HTTP, by the router; PORT/tcp has a local port that is free, LOCAL:PORT/tcp that one.
    """
    found = _get(name)
    for port in [aegis.Port.of(port) for port in ports]:
        click.echo(_exposed(found, port))


@sandbox.command()
@click.argument("name")
@click.argument("ports", nargs=-1, required=True, metavar="PORT...")
def conceal(*, name: str, ports: Sequence[str]) -> None:
    """Have ports of the guest NAME be reached no more, which are written as for `expose`."""
    found = _get(name)
    for port in [aegis.Port.of(port) for port in ports]:
        found.conceal(port.number, protocol=port.protocol)


@sandbox.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove(*, names: Sequence[str]) -> int:
    """End guests at once, and forget them; exit with 1 if one of them could not be removed."""
    failed = 0
    for name in names:
        try:
            _get(name).remove()
        except aegis.NotFound as error:
            words.say(f"aegis: {error.message}")
            failed = 1
        else:
            click.echo(f"removed {words.printable(name)}")
    return failed


def _get(name: str) -> aegis.Sandbox:
    return aegis.Sandbox.get(name, engine=aegis.connect())


def _exposed(found: aegis.Sandbox, port: aegis.Port) -> str:
    return found.expose(port.number, protocol=port.protocol, local=port.local)


@contextmanager
def _removed_on_error(made: aegis.Sandbox) -> Iterator[None]:
    try:
        yield
    except BaseException:
        made.remove()
        raise


def _facts(info: aegis.SandboxInfo) -> Iterator[tuple[str, str]]:
    yield "name", info.name or "it has none"
    yield "id", info.id
    yield "state", info.state
    yield "kept", "until it is removed" if info.keep else "as long as the program that made it runs"
    yield "image", info.image
    yield "created", words.ago(info.created)
    yield "memory", f"{info.memory} MiB"
    yield "processors", str(info.cpus)
    yield "network", str(info.network)
    yield "driver", f"{info.driver} ({info.accelerator}): {info.driver_reason}"
    yield "kernel", info.kernel
    if info.pid is not None:
        yield "process", str(info.pid)
    for port, address in info.addresses.items():
        yield f"port {port}", address
    if info.memory_used is not None:
        yield "takes", words.size(info.memory_used)


def _described(info: aegis.SandboxInfo) -> dict[str, object]:
    return attrs.asdict(
        info, value_serializer=lambda _, __, value: dict(value) if isinstance(value, Mapping) else value
    )


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))
