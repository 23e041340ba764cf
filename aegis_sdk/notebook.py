"""The cell magic %%aegis for IPython and Jupyter: load it by ``%load_ext aegis_sdk.notebook``."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import attrs
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from aegis_sdk.completion import checked
from aegis_sdk.display import Shown
from aegis_sdk.errors import AegisError, CommandFailed, GuestDied, ProtocolViolation, SandboxClosed
from aegis_sdk.model import Network, Progress, SandboxSpec, printable
from aegis_sdk.model.network import MODES
from aegis_sdk.process import Process, StreamName
from aegis_sdk.sandbox import Sandbox

E = TypeVar("E", bound=BaseException)

_AFTER_INTERRUPT = 5.0
_FLUSH_AFTER = 0.1  # seconds: each flush is a message to the notebook, and a notebook takes only so many
_KEPT = 4096  # bytes of errors, for who catches what a failed cell raises
_OF_A_CELL = ("env", "cwd", "user")


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give *shell* the magic; nothing boots before its first use."""
    shell.register_magics(AegisMagics)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magic back, and end its sandbox."""
    shell.magics_manager.registry.pop(AegisMagics.__name__).close()
    for table in shell.magics_manager.magics.values():
        table.pop("aegis", None)


@magics_class
class AegisMagics(Magics):
    """One sandbox for all cells of a kernel: it boots when the first needs it, and ends with the kernel."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._lock = threading.Lock()  # cells of two subshells run at once
        self._sandbox: Sandbox | None = None  # until the first cell
        self._spec = SandboxSpec()

    @magic_arguments()
    @argument("--image", metavar="REF", help="The sandbox's image, as for `docker run`; base by default.")
    @argument("--memory", type=int, metavar="MIB", help="Its memory; 512 by default.")
    @argument("--cpus", type=int, metavar="N", help="Its processors; 1 by default.")
    @argument("--network", choices=MODES, help="What it may reach; public by default, and none with --allow.")
    @argument(
        "--allow", action="append", metavar="RULE", help="It may reach that: packages.example.org:443, 10.0.0.0/8:5432."
    )
    @argument("--deny", action="append", metavar="RULE", help="It may not reach that, whatever else is said.")
    @argument("--writable", action="store_true", default=None, help="Let cells write everywhere in it.")
    @argument("--new", action="store_true", help="Boot another sandbox, and end the one there was.")
    @argument("-e", "--env", action="append", metavar="NAME=VALUE", help="Set a variable for this cell.")
    @argument("--cwd", metavar="DIR", help="The directory that this cell starts in.")
    @argument("--user", metavar="USER[:GROUP]", help="Whom this cell runs as.")
    @line_cell_magic
    def aegis(self, line: str, cell: str | None = None) -> Sandbox | None:
        """Run the cell as a shell script in the notebook's sandbox, and show what it writes as it comes.

        Each cell is a script of its own for `sh -e`: the first command that fails ends it, and the cell then failed.
        Files and running programs stay for later cells; variables and the current directory do not.
        As a line, `vm = %aegis` gives the sandbox to Python.
        """
        words = _words(self.aegis.parser, line)
        options = {name: words.pop(name) for name in _OF_A_CELL}
        if cell is None and any(options.values()):
            raise UsageError("--env, --cwd and --user are for cells, which begin with %%aegis")
        options["env"] = dict(map(_variable, options["env"] or ()))
        try:
            vm = self._sandbox_for(**words)
            if cell is not None:
                self._run(vm, cell, options)
        except (AegisError, KeyboardInterrupt) as error:
            raise _brief(error) from None
        return vm if cell is None else None

    def close(self) -> None:
        """End the sandbox."""
        with self._lock:
            self._replace(None)

    def _run(self, vm: Sandbox, script: str, options: Mapping[str, Any]) -> None:
        try:
            _run(vm, script, options)
        except (GuestDied, ProtocolViolation, SandboxClosed) as error:
            with self._lock:
                if self._sandbox is vm:
                    self._replace(None)
            error.hint = error.hint or "the next cell boots another sandbox like it"
            raise

    def _sandbox_for(self, *, new: bool, **asked: Any) -> Sandbox:  # Any: SandboxSpec checks them
        rules = {name: asked.pop(name) or () for name in ("allow", "deny")}
        asked["network"] = _network(asked["network"], **rules)
        given = {name: value for name, value in asked.items() if value is not None}
        with self._lock:
            spec = attrs.evolve(SandboxSpec() if new else self._spec, **given)
            if new or not self._sandbox:
                made = _boot(spec)
                self._replace(made)
                self._spec = spec
                return made
            if spec != self._spec:
                raise UsageError(f"the cells have a sandbox already, {self._sandbox}: --new replaces it by another")
            return self._sandbox

    def _replace(self, by: Sandbox | None) -> None:
        if self._sandbox:
            self._sandbox.close()
        self._sandbox = by


class _Screen:
    """Where a command's output is shown: the notebook's, or the terminal's; the last of its errors are kept."""

    def __init__(self) -> None:
        self._texts: dict[StreamName, Shown] = {"stdout": Shown(), "stderr": Shown()}
        self._last: StreamName = "stdout"
        self._flushed = -math.inf
        self.last_errors = b""

    def show(self, process: Process, timeout: float | None = None) -> None:
        """Show what comes, to its end; TimeoutError if that takes longer than *timeout* seconds."""
        for stream, piece in process.output(timeout):
            self._write(stream, self._texts[stream].feed(piece))
            if stream == "stderr":
                self.last_errors = (self.last_errors + piece)[-_KEPT:]
        for stream, text in self._texts.items():
            self._write(stream, text.feed(b"", final=True))

    def _write(self, stream: StreamName, text: str) -> None:
        if stream != self._last:  # or they would change places
            self._flush()
        self._last = stream
        getattr(sys, stream).write(text)
        if time.monotonic() - self._flushed > _FLUSH_AFTER:
            self._flush()

    def _flush(self) -> None:
        getattr(sys, self._last).flush()
        self._flushed = time.monotonic()


def _boot(spec: SandboxSpec) -> Sandbox:
    progress = None if spec.image == SandboxSpec().image else _say_progress  # that one is made in a moment
    return Sandbox(
        spec.image,
        memory=spec.memory,
        cpus=spec.cpus,
        writable=spec.writable,
        network=spec.network,
        progress=progress,
    )


def _network(mode: str | None, *, allow: Sequence[str], deny: Sequence[str]) -> Network | None:
    """What is meant; None if nothing was said."""
    return Network(mode=mode or "", allow=allow or None, deny=deny) if mode or allow or deny else None


def _run(vm: Sandbox, script: str, options: Mapping[str, Any]) -> None:
    """Run a cell, and show what it writes; an interrupt is passed on to it, and then ends it."""
    screen = _Screen()
    with vm.start("/bin/sh", "-e", "-c", script, **options) as process:
        try:
            screen.show(process)
        except KeyboardInterrupt:
            process.kill("SIGINT")
            with suppress(TimeoutError):
                screen.show(process, _AFTER_INTERRUPT)
            raise
        completed = process.complete()
    try:
        checked(attrs.evolve(completed, argv=("%%aegis",), stderr_bytes=screen.last_errors))
    except CommandFailed as error:
        error.message = error.message.partition("\n")[0]  # what comes then has been shown
        raise


def _words(parser: argparse.ArgumentParser, line: str) -> dict[str, Any]:
    try:
        return vars(parser.parse_args(shlex.split(line)))
    except ValueError as error:
        raise UsageError(f"{error}: {line}") from None


def _variable(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise UsageError(f"--env {word!r} is not NAME=VALUE")
    return name, value


def _say_progress(progress: Progress) -> None:
    if progress.done == progress.total:
        sys.stderr.write(f"layer {progress.number} of {progress.layers}: {progress.step} done\n")


def _brief(error: E) -> E:
    """*error*, of which IPython shows the message, and not where in this file it was raised."""
    words = f"{type(error).__name__}: {printable(str(error))}" if str(error) else type(error).__name__
    error._render_traceback_ = words.splitlines  # type: ignore[attr-defined]  # IPython looks for it
    return error
