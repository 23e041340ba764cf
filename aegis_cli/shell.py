"""``aegis shell``: the shell of an image, at the caller's terminal."""

from __future__ import annotations

import click
from click.core import ParameterSource

import aegis_sdk as aegis
from aegis_cli import named, terminal
from aegis_cli.attend import attend
from aegis_cli.guest_options import Guest, guest_options

_USUAL = ("/bin/bash", "/bin/sh")
_NOT_THERE = (126, 127)


@click.command
@click.option("--name", help="Not in a fresh guest, but in that sandbox or app of the daemon's, which runs on.")
@guest_options
@click.argument("image", required=False)
@click.pass_context
def shell(context: click.Context, *, name: str | None, guest: Guest, image: str | None) -> int:
    """Open a shell in a fresh guest, or in the one with that --name, and exit with its exit code.

    It is $SHELL where the image names one, else bash where there is one, else sh. IMAGE is as for `docker run`, and
    `base` if none is given.
    """
    terminal.required("A shell")
    if name is not None:
        _refuse_what_is_for_fresh_guests(context)
        vm = named.guest(name)
        with _shell(vm, guest, vm.info().config) as process:
            return attend(process, tty=True)
    pulled = guest.image(image or "base")
    with guest.boot(pulled) as vm, _shell(vm, guest, pulled.info.config) as process:
        return attend(process, tty=True)


def _refuse_what_is_for_fresh_guests(context: click.Context) -> None:
    for parameter in context.command.params:
        word = parameter.name or ""
        given = context.get_parameter_source(word) is ParameterSource.COMMANDLINE and context.params[word]
        if given and word not in ("name", "env", "cwd", "user"):
            raise click.UsageError(f"{parameter.opts[-1]} is for a fresh guest, and --name for one that is there.")


def _shell(vm: aegis.Sandbox, guest: Guest, image: aegis.ImageConfig) -> aegis.Process:
    """The first that can be started, or the last that cannot, which says why."""
    named = {**image.env, **guest.env}.get("SHELL")
    *candidates, last = (named, *_USUAL) if named else _USUAL
    for name in candidates:
        process = guest.start(vm, name, tty=terminal.size())
        if process.pid is not None or process.exit_code not in _NOT_THERE:
            return process
        process.close()
    return guest.start(vm, last, tty=terminal.size())
