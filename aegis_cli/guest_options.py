"""The options of every command that boots a guest, and what they come to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import click

import aegis_sdk as aegis
from aegis_cli import volume
from aegis_cli.progress import progress_on_stderr

_OPTIONS = (
    click.option(
        "-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable of the command's environment."
    ),
    click.option("--cwd", metavar="DIR", help="The directory that the command starts in."),
    click.option(
        "--user",
        metavar="USER[:GROUP]",
        help="Whom the command runs as: names or numbers; the image's user by default.",
    ),
    click.option("--memory", type=int, default=512, show_default=True, metavar="MIB", help="The guest's memory."),
    click.option("--cpus", type=int, default=1, show_default=True, metavar="N", help="The guest's processors."),
    click.option("--disk", type=int, metavar="MIB", help="What files may take in it; they are in its memory."),
    click.option("--processes", type=int, metavar="N", help="How many processes may run in it."),
    click.option(
        "-v",
        "--volume",
        "mounts",
        multiple=True,
        metavar="SOURCE:TARGET[:ro]",
        help="Show it a directory of this machine.",
    ),
    click.option("--writable", is_flag=True, help="Let the command write everywhere; what it writes is thrown away."),
    click.option("--nested", is_flag=True, help="Give the guest a /dev/kvm: it can run machines of its own."),
    click.option("--driver", metavar="NAME", help="What boots the guest: auto, libkrun or qemu."),
    click.option(
        "--pull",
        type=click.Choice(["always", "missing", "never"]),
        default="missing",
        show_default=True,
        help="When to ask the image's registry.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Show no progress of the image."),
)


def _environment(words: Sequence[str]) -> dict[str, str]:
    return dict(_variable(word) for word in words)


def _variable(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{word!r} is not NAME=VALUE", param_hint="--env")
    return name, value


@attrs.frozen(kw_only=True)
class Guest:
    """A guest as it is asked for on the command line, and how a command is to run there."""

    env: dict[str, str] = attrs.field(converter=_environment)
    cwd: str | None
    user: str | None
    memory: int
    cpus: int
    disk: int | None
    processes: int | None
    mounts: list[aegis.Mount] = attrs.field(converter=volume.mounts)
    writable: bool
    nested: bool
    driver: str | None
    pull: str
    quiet: bool

    def image(self, reference: str) -> aegis.Image:
        """The image, pulled before if that is to be."""
        with progress_on_stderr(quiet=self.quiet or reference == "base") as progress:  # which is made here in a moment
            return aegis.Image.pull(reference, policy=self.pull, progress=progress)

    def boot(self, image: aegis.Image) -> aegis.Sandbox:
        """A fresh guest with that image."""
        return aegis.Sandbox(
            image,
            memory=self.memory,
            cpus=self.cpus,
            disk=self.disk,
            processes=self.processes,
            mounts=self.mounts,
            writable=self.writable,
            nested=self.nested,
            driver=self.driver,
        )

    def start(self, vm: aegis.Sandbox, *command: str, tty: bool | tuple[int, int] = False) -> aegis.Process:
        """A command that runs in the guest, and takes input."""
        return vm.start(*command, stdin=True, tty=tty, env=self.env, cwd=self.cwd, user=self.user)


def guest_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give *command* the options, as one argument: *guest*."""

    @functools.wraps(command)
    def wrapper(**given: Any) -> int:  # Any: what click makes of the words
        names = [field.name for field in attrs.fields(Guest)]
        return command(guest=Guest(**{name: given.pop(name) for name in names}), **given)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper
