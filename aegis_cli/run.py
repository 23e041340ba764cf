"""``aegis run``: one command in a fresh guest."""

from __future__ import annotations

from collections.abc import Sequence

import click

from aegis_cli import terminal
from aegis_cli.attend import attend
from aegis_cli.guest_options import Guest, guest_options


@click.command(context_settings={"allow_interspersed_args": False})
@guest_options
@click.option(
    "-i", "--interactive", is_flag=True, expose_value=False, help="Pass standard input on, which is done anyway."
)
@click.option("-t", "--tty", is_flag=True, help="Give the command this terminal: as in `aegis run -it vi /tmp/x`.")
@click.option("--timeout", type=float, metavar="SECONDS", help="End the command after that time, and exit with 124.")
@click.option("--image", default="base", show_default=True, metavar="REF", help="The image, as for `docker run`.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(*, guest: Guest, tty: bool, timeout: float | None, image: str, command: Sequence[str]) -> int:
    """Run COMMAND in a fresh guest, and exit with its exit code; without one, the command of the image.

    124: it timed out. 125: Aegis itself failed. 126, 127: it cannot be executed, or there is no such command.
    128 + N: signal N ended it.
    """
    if timeout is not None and not timeout > 0:
        raise click.BadParameter("it must be more than 0 seconds", param_hint="--timeout")
    if tty:
        terminal.required("-t")
    pulled = guest.image(image)
    if not command and not pulled.info.config.entrypoint + pulled.info.config.command:
        raise click.UsageError(f"No command was given, and the image {image} has none of its own.")
    with guest.boot(pulled) as vm, guest.start(vm, *command, tty=terminal.size() if tty else False) as process:
        return attend(vm, process, tty=tty, timeout=timeout)
