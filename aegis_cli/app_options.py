"""The options of what an app is to be; those that are not given are left to what it is, or to the defaults."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import click

import aegis_sdk as aegis
from aegis_cli import volume, words
from aegis_cli.guest_options import environment
from aegis_cli.network_options import NETWORK_OPTIONS, network_of

_NEVER = math.inf


class Duration(click.ParamType[float]):
    """A length of time in seconds, infinite for ``never`` where that may be."""

    name = "duration"

    def __init__(self, *, never: bool = False) -> None:
        self._never = never

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if self._never and value == "never":
            return _NEVER
        try:
            return words.duration(str(value))
        except ValueError as error:
            self.fail(str(error) + (", or never" if self._never else ""), param, ctx)


#: Which options together say one thing, and replace what was said of it.
_NETWORK = ("network", "allow", "deny", "allow_host")
_SEVERAL = " May be given several times; all that there were are replaced."
_OPTIONS = (
    click.option("--image", metavar="REF", help="Its image, as for `docker run`; base by default."),
    click.option(
        "--expose",
        multiple=True,
        metavar="PORT[/tcp]",
        help="A port that it serves on: HTTP, by the router, or with /tcp by a port of this machine." + _SEVERAL,
    ),
    click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="A variable of its environment." + _SEVERAL),
    click.option("--cwd", metavar="DIR", help="The directory that its command starts in."),
    click.option("--user", metavar="USER[:GROUP]", help="Whom its command runs as."),
    click.option(
        "--readiness-port", type=int, metavar="PORT", help="What takes connections when it is ready; the first exposed."
    ),
    click.option("--readiness-timeout", type=Duration(), metavar="TIME", help="What it may take for that; 30s."),
    click.option("--readiness-interval", type=Duration(), metavar="TIME", help="Between two tries; 0.2s."),
    click.option(
        "--idle",
        type=Duration(never=True),
        metavar="TIME|never",
        help="Pause it after so long without a request or activity; 60s.",
    ),
    click.option(
        "--stop-after", type=Duration(never=True), metavar="TIME|never", help="Stop it when it was paused so long; 20m."
    ),
    click.option("--memory", type=int, metavar="MIB", help="Its guest's memory; 512."),
    click.option("--cpus", type=int, metavar="N", help="Its guest's processors; 1."),
    click.option("--disk", type=int, metavar="MIB", help="What files may take in it; they are in its memory."),
    click.option("--processes", type=int, metavar="N", help="How many processes may run in it."),
    click.option(
        "-v",
        "--volume",
        "mounts",
        multiple=True,
        metavar="SOURCE:TARGET[:ro]",
        help="A directory of this machine that it sees." + _SEVERAL,
    ),
    *NETWORK_OPTIONS,
    click.option("--writable/--read-only", default=None, help="Let it write everywhere; that is thrown away."),
    click.option("--driver", metavar="NAME", help="What boots its guest: auto, libkrun or qemu."),
    click.option(
        "--pull", type=click.Choice(["always", "missing", "never"]), help="When a release asks its image's registry."
    ),
    click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]"),
)


def app_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* all of the options, as one argument: *options*."""

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:  # Any: what click makes of the words
        known = given.keys() & {*aegis.AppOptions.__annotations__, *_NETWORK}
        return command(options=_asked({name: given.pop(name) for name in known}), **given)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


def _asked(given: dict[str, Any]) -> aegis.AppOptions:
    rules = {name: given.pop(name) for name in _NETWORK}
    options: Any = {name: value for name, value in given.items() if value not in (None, ())}
    if network := network_of(**rules):
        options["network"] = network
    for name in ("idle", "stop_after"):
        if options.get(name) == _NEVER:
            options[name] = None
    if "env" in options:
        options["env"] = environment(options["env"])
    if "mounts" in options:
        options["mounts"] = volume.mounts(options["mounts"])
    made: aegis.AppOptions = options
    return made
