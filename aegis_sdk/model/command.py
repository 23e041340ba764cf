"""A command in a guest: what is asked for, and what it left."""

from __future__ import annotations

import signal as signals
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import attrs

from aegis_sdk.arguments import text as _text
from aegis_sdk.arguments import whole as _whole
from aegis_sdk.errors import InvalidValue
from aegis_sdk.hints import hint
from aegis_sdk.model.attempt import NetworkEvent
from aegis_sdk.model.fixed import Fixed
from aegis_sdk.model.image import ImageConfig

_MOST_REFUSALS, _HINTS = 10, 3  # kept, and said


@attrs.frozen
class TerminalSize:
    """How large a terminal is, in characters."""

    rows: int = 24
    cols: int = 80

    def __attrs_post_init__(self) -> None:
        for name, count in (("rows", self.rows), ("cols", self.cols)):
            _whole(name, count, at_least=1, at_most=(1 << 16) - 1)


def _terminal(tty: object) -> TerminalSize | None:
    if isinstance(tty, bool | TerminalSize | None):
        return TerminalSize() if tty is True else tty or None
    if not isinstance(tty, Sequence) or len(tty) != 2:
        raise InvalidValue(f"tty must be True, False or (rows, cols), not {tty!r}")
    return TerminalSize(*tty)


@attrs.frozen(kw_only=True)
class Command:
    """One command to be run in a guest."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict, converter=Fixed)
    cwd: str | None = None
    user: str | None = None
    stdin: bool = False
    tty: TerminalSize | None = attrs.field(default=None, converter=_terminal)

    def __attrs_post_init__(self) -> None:
        if not self.argv:
            hint = 'for example: vm.run("echo", "hello")'
            raise InvalidValue("no command was given, and the image has none of its own", hint=hint)
        for word in self.argv:
            _text("an argument", word)
        for name, value in self.env.items():
            _text("the name of an environment variable", name)
            _text(f"the value of {name}", value)
            if not name or "=" in name:
                raise InvalidValue(f"{name!r} cannot be the name of an environment variable")
        if not self.argv[0]:
            raise InvalidValue("the command's name is empty")
        if self.cwd is not None:
            _text("cwd", self.cwd)
        if self.user is not None:
            _text("user", self.user)

    @classmethod
    def of(
        cls,
        image: ImageConfig,
        argv: tuple[str, ...],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        user: str | None,
        stdin: bool,
        tty: bool | tuple[int, int] | TerminalSize | None,
    ) -> Self:
        """The command as it is asked for, with the image's defaults for what is not."""
        return cls(
            argv=argv or image.entrypoint + image.command,
            env={**image.env, **env},
            cwd=image.cwd or None if cwd is None else cwd,
            user=image.user or None if user is None else user,
            stdin=stdin,
            tty=tty,
        )


@attrs.frozen(kw_only=True)
class Exit:
    """How a command ended: *code* as a shell gives it, *signal* the number that killed it."""

    code: int
    signal: int | None = None
    out_of_memory: bool = False
    out_of_processes: bool = False


def _refusals(events: Iterable[NetworkEvent]) -> tuple[NetworkEvent, ...]:
    """The last of those that were refused, each place once."""
    found = {event.place: event for event in events if not event.allowed}
    return tuple(found.values())[-_MOST_REFUSALS:]


@attrs.frozen(kw_only=True)
class Completed:
    """A command that has ended, and all that it wrote; *duration* in seconds.

    *refused* is what its guest was refused meanwhile, if it failed: each address or name with its port once.
    """

    argv: tuple[str, ...]
    exit_code: int
    stdout_bytes: bytes = attrs.field(repr=False)
    stderr_bytes: bytes = attrs.field(repr=False)
    duration: float
    signal: str | None = None
    timed_out: bool = False
    out_of_memory: bool = False
    out_of_processes: bool = False
    refused: tuple[NetworkEvent, ...] = attrs.field(default=(), converter=_refusals)

    @property
    def hint(self) -> str:
        """What to do about it if the command failed for a limit of its guest; empty if that is not to be seen.

        Of what it was refused by its network, each is a line.
        """
        return hint(
            self.exit_code,
            self.stderr_bytes,
            out_of_memory=self.out_of_memory,
            out_of_processes=self.out_of_processes,
            refused=[event.hint for event in self.refused[-_HINTS:]],
        )

    @property
    def stdout(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether the command ended in time with exit code 0."""
        return self.exit_code == 0 and not self.timed_out

    def _repr_html_(self) -> str:
        from aegis_sdk import display

        return display.of_completed(self)


def printable(text: str) -> str:
    """*text* without what could do something to a terminal but print."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def signal_name(number: int | None) -> str | None:
    """``SIGTERM`` for 15; a number that has no name here stays a number."""
    if number is None:
        return None
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
