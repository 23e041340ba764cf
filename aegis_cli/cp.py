"""``aegis cp``: files and trees, into a guest that is there and out of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import click

import aegis_sdk as aegis
from aegis_cli import named, words
from aegis_cli.attend import write

# A path of this machine with a colon in it begins with a slash or a dot, which no name does.
_IN_GUEST = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*):(?P<path>.*)", re.DOTALL)
_STANDARD = "-"
_CHUNK = 1 << 20


@click.command()
@click.option("--user", metavar="USER[:GROUP]", help="Who reads or writes in the guest; root by default.")
@click.argument("source")
@click.argument("destination")
def cp(*, user: str | None, source: str, destination: str) -> None:
    """Copy a file or a tree between this machine and a guest of the daemon's, whose paths are written NAME:PATH.

    NAME is a sandbox, or an app, which is woken first.
    A directory becomes DESTINATION, merged with one that is there; a file becomes it, or goes into it if it is a
    directory or ends with a slash. Modes, times and links survive. A single `-` is standard input or output.
    """
    there, here = _IN_GUEST.fullmatch(source), _IN_GUEST.fullmatch(destination)
    if bool(there) == bool(here):
        raise click.UsageError("One of SOURCE and DESTINATION is to be in a guest: write it as NAME:PATH.")
    if there:
        _out(named.guest(there["name"]).files, there["path"], destination, user=user)
    elif here:
        _into(named.guest(here["name"]).files, source, here["path"], user=user)


def _into(files: aegis.Files, source: str, path: str, *, user: str | None) -> None:
    if source == _STANDARD:
        files.write(path, sys.stdin.buffer, user=user)
    else:
        _tell(files.upload(source, path, user=user).left_out)


def _out(files: aegis.Files, path: str, destination: str, *, user: str | None) -> None:
    if destination == _STANDARD:
        with files.open(path, "rb", user=user) as contents:
            while piece := contents.read(_CHUNK):
                write(1, piece)
    else:
        _tell(files.download(path, destination, user=user).left_out)


def _tell(left_out: Sequence[str]) -> None:
    for path in left_out:
        words.say(f"aegis: left out, because it is neither file, directory nor link: {words.printable(path)}")
