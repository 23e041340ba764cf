"""The commands, and how their errors become words and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import click

import aegis_sdk as aegis
from aegis_cli.app import app
from aegis_cli.commands import Commands
from aegis_cli.cp import cp
from aegis_cli.daemon import down, status, up
from aegis_cli.doctor import doctor
from aegis_cli.exec import exec_
from aegis_cli.image import image
from aegis_cli.logs import logs
from aegis_cli.plugins import plugins
from aegis_cli.run import run
from aegis_cli.sandbox import sandbox
from aegis_cli.secret import secret
from aegis_cli.shell import shell
from aegis_cli.task import task
from aegis_cli.words import printable, say

#: What Aegis exits with when a command was to be run and it is Aegis that failed; other commands exit with 1.
FAILED_TO_RUN = 125
_RUNNING = (["run"], ["shell"], ["exec"], ["task", "wait"])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(aegis.__version__, prog_name="aegis", message="%(prog)s %(version)s")
def commands() -> None:
    """A computer of its own for any script, notebook or agent."""


@commands.command()
def version() -> None:
    """Print the version."""
    click.echo(f"aegis {aegis.__version__}")


commands.add_command(run)
commands.add_command(shell)
commands.add_command(sandbox)
commands.add_command(exec_)
commands.add_command(logs)
commands.add_command(cp)
commands.add_command(doctor)
commands.add_command(image)
commands.add_command(plugins)
commands.add_command(app)
commands.add_command(secret)
commands.add_command(task)
for command in (up, down, status):
    commands.add_command(command)


class Left(BaseException):  # it is none, and not SystemExit, which a plugin's code may raise, too
    """A signal has asked this process to end: as an exception, so that every sandbox on the way out is closed."""


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    _fill_standard_descriptors()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _leave)
    sys.exit(_outcome(sys.argv[1:]))


def _fill_standard_descriptors() -> None:
    """Put something in the place of closed standard streams, so that nothing of a guest's gets their numbers."""
    # For reading only: who writes to a closed stream is to be told.
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)  # Python has none where it was closed


def _leave(number: int, _: FrameType | None) -> NoReturn:
    raise Left(128 + number)


def _outcome(arguments: list[str]) -> int:
    failed = FAILED_TO_RUN if arguments[:1] in _RUNNING or arguments[:2] in _RUNNING else 1
    try:
        return int(commands.main(arguments, prog_name="aegis", standalone_mode=False) or 0)
    except click.UsageError as error:
        error.show()
        return FAILED_TO_RUN if failed == FAILED_TO_RUN else error.exit_code
    except (aegis.AegisError, OSError) as error:
        # What it quotes may come from an image, a registry or a plugin.
        say("aegis: " + "\n".join(map(printable, str(error).splitlines())))
        return failed
    except Left as left:
        return int(left.args[0])
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001  # a fault of ours: to be seen whole, and not taken for the command's own exit code
        say(traceback.format_exc().rstrip())
        return failed
