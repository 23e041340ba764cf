"""The options of the commands that boot a guest, or run a command in one, and what they come to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import click

import aegis_sdk as aegis
from aegis_cli import volume
from aegis_cli.network_options import NETWORK_OPTIONS, network_of
from aegis_cli.progress import progress_on_stderr

_OF_COMMANDS = (
    click.option(
        "-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable of the command's environment."
    ),
    click.option("--cwd", metavar="DIR", help="The directory that the command starts in."),
    click.option(
        "--user",
        metavar="USER[:GROUP]",
        help="Whom the command runs as: names or numbers; the image's user by default.",
    ),
)
_OF_MACHINES = (
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
    *NETWORK_OPTIONS,
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


#: What has another name, or no meaning, where a task is asked for.
_NOT_A_TASKS = ("quiet", "network", "allow", "deny", "allow_host")


def environment(words: Sequence[str]) -> dict[str, str]:
    """What the words of all ``--env`` mean."""
    return dict(_variable(word) for word in words)


def _variable(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{word!r} is not NAME=VALUE", param_hint="--env")
    return name, value


@attrs.frozen(kw_only=True)
class Manner:
    """How a command is to run in a guest."""

    env: dict[str, str] = attrs.field(converter=environment)
    cwd: str | None
    user: str | None

    def start(self, vm: aegis.Sandbox, *command: str, tty: bool | tuple[int, int] = False) -> aegis.Process:
        """A command that runs in the guest, and takes input."""
        return vm.start(*command, stdin=True, tty=tty, env=self.env, cwd=self.cwd, user=self.user)


@attrs.frozen(kw_only=True)
class Machine:
    """A guest as it is asked for on the command line."""

    memory: int
    cpus: int
    disk: int | None
    processes: int | None
    mounts: list[aegis.Mount] = attrs.field(converter=volume.mounts)
    network: str | None
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    allow_host: tuple[str, ...]
    writable: bool
    nested: bool
    driver: str | None
    pull: str
    quiet: bool

    @property
    def reach(self) -> aegis.Network:
        """What it may reach."""
        asked = network_of(network=self.network, allow=self.allow, deny=self.deny, allow_host=self.allow_host)
        return asked or aegis.Network()

    def image(self, reference: str, *, engine: aegis.Engine | None = None) -> aegis.Image:
        """The image, pulled before if that is to be."""
        with progress_on_stderr(quiet=self.quiet or reference == "base") as progress:  # which is made here in a moment
            return aegis.Image.pull(reference, policy=self.pull, progress=progress, engine=engine)

    def boot(self, image: aegis.Image, *, name: str | None = None, keep: bool = False) -> aegis.Sandbox:
        """A fresh guest with that image."""
        return aegis.Sandbox(
            image,
            memory=self.memory,
            cpus=self.cpus,
            disk=self.disk,
            processes=self.processes,
            mounts=self.mounts,
            network=self.reach,
            writable=self.writable,
            nested=self.nested,
            driver=self.driver,
            name=name,
            keep=keep,
        )


@attrs.frozen
class Guest:
    """A guest, and how a command is to run there."""

    machine: Machine
    manner: Manner

    @property
    def env(self) -> dict[str, str]:
        """What is set for the command, beside what the image says."""
        return self.manner.env

    def image(self, reference: str, *, engine: aegis.Engine | None = None) -> aegis.Image:
        """The image, pulled before if that is to be."""
        return self.machine.image(reference, engine=engine)

    def submit(self, *command: str, image: str | aegis.Image, **options: Any) -> aegis.Task:  # Any: as Task.submit has
        """A task that runs a command in a fresh guest with that image."""
        asked = attrs.asdict(self.machine, recurse=False, filter=lambda field, _: field.name not in _NOT_A_TASKS)
        return aegis.Task.submit(
            *command,
            image=image,
            env=self.manner.env,
            cwd=self.manner.cwd,
            user=self.manner.user,
            network=self.machine.reach,
            **asked,
            **options,
        )

    def boot(self, image: aegis.Image) -> aegis.Sandbox:
        """A fresh guest with that image."""
        return self.machine.boot(image)

    def start(self, vm: aegis.Sandbox, *command: str, tty: bool | tuple[int, int] = False) -> aegis.Process:
        """A command that runs in the guest, and takes input."""
        return self.manner.start(vm, *command, tty=tty)


def guest_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give *command* all of the options, as one argument: *guest*."""

    @functools.wraps(command)
    def wrapper(*, machine: Machine, manner: Manner, **given: Any) -> int | None:  # Any: what click makes of the words
        return command(guest=Guest(machine, manner), **given)

    return command_options(machine_options(wrapper))


def machine_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give *command* the options of a guest, as one argument: *machine*."""
    return _with(_OF_MACHINES, Machine, "machine", command)


def command_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give *command* the options of how a command runs, as one argument: *manner*."""
    return _with(_OF_COMMANDS, Manner, "manner", command)


def _with(
    options: Sequence[Callable[..., Any]], shape: type[Any], argument: str, command: Callable[..., int | None]
) -> Callable[..., int | None]:
    @functools.wraps(command)
    def wrapper(**given: Any) -> int | None:
        made = shape(**{field.name: given.pop(field.name) for field in attrs.fields(shape)})
        return command(**{argument: made}, **given)

    for option in reversed(options):
        wrapper = option(wrapper)
    return wrapper
