"""``aegis shell``: the shell of an image, at the caller's terminal."""

from __future__ import annotations

import click

import aegis_sdk as aegis
from aegis_cli import terminal
from aegis_cli.attend import attend
from aegis_cli.guest_options import Guest, guest_options

_USUAL = ("/bin/bash", "/bin/sh")
_NOT_THERE = (126, 127)


@click.command
@guest_options
@click.argument("image", default="base")
def shell(*, guest: Guest, image: str) -> int:
    """Open a shell in a fresh guest, and exit with its exit code.

    It is $SHELL where the image names one, else bash where there is one, else sh. IMAGE is as for `docker run`.
    """
    terminal.required("A shell")
    pulled = guest.image(image)
    with guest.boot(pulled) as vm, _shell(vm, guest, pulled) as process:
        return attend(vm, process, tty=True)


def _shell(vm: aegis.Sandbox, guest: Guest, image: aegis.Image) -> aegis.Process:
    """The first that can be started, or the last that cannot, which says why."""
    named = {**image.info.config.env, **guest.env}.get("SHELL")
    *candidates, last = (named, *_USUAL) if named else _USUAL
    for name in candidates:
        process = guest.start(vm, name, tty=terminal.size())
        if process.pid is not None or process.exit_code not in _NOT_THERE:
            return process
        process.close()
    return guest.start(vm, last, tty=terminal.size())
