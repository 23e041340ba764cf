"""The daemon of a home: whether it runs, starting it, ending it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs

import aegis_sdk
from aegis_sdk import locks
from aegis_sdk.config import Config
from aegis_sdk.errors import DaemonUnavailable, InvalidValue
from aegis_sdk.model import Check, DaemonStatus

_PARTING = 2.0  # for the kernel to clear up behind one that was killed
_ANSWER = 5.0  # seconds for what needs no guest
_START = 300.0  # it boots what it is to boot again first
_END = 40.0  # it gives its guests half of that
_GLANCE = 0.05
_RUNS_ALREADY = 3


class Daemon:
    """The daemon of this user's home, or of *home*, which runs or does not; with AEGIS_HOST set, the one that is there.

    That one can be asked how it is, but neither started nor ended.
    """

    def __init__(self, home: Path | None = None) -> None:
        config = Config.from_environment()
        self._config = attrs.evolve(config, home=home.absolute(), host=None) if home else config
        self._socket = self._config.host or self._config.socket
        self._lock = self._socket.with_name(self._config.lock.name)

    @property
    def log(self) -> Path:
        """The file of its log."""
        return self._config.logs / "aegisd.log"

    @property
    def command(self) -> tuple[str, ...]:
        """The command that runs it in the foreground."""
        program = Path(sys.executable).with_name("aegisd")
        return (str(program),) if program.is_file() else (sys.executable, "-P", "-m", "aegis_daemon")

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that it is to have, beside those of every program."""
        config = self._config
        paths = {"AEGIS_HOME": config.home, "AEGIS_KERNEL": config.kernel, "AEGIS_LIBKRUN": config.libkrun}
        others = (
            "AEGIS_DRIVER",
            "AEGIS_DEBUG",
            "AEGIS_PLAIN_HTTP",
            "AEGIS_TASK_GUESTS",
            "AEGIS_ROUTER_PORT",
            "AEGIS_ROUTER_NAMES",
        )
        given = {name: config.environ[name] for name in others if config.environ.get(name)}
        return {name: str(path) for name, path in paths.items() if path} | given

    def status(self) -> DaemonStatus | None:
        """How it is; None if it does not run. DaemonUnavailable if it does not answer."""
        from aegis_sdk.engine.exchange import BrokenOff, Exchange, NotListening  # late: it costs more than the rest

        try:
            return Exchange(self._socket).ask("GET", "status", shape=DaemonStatus, limit=_ANSWER)
        except NotListening:
            return None
        except BrokenOff:  # its last moment
            if self._until(lambda: locks.holder(self._lock) is None, _PARTING):
                return None
            raise

    def start(self) -> DaemonStatus:
        """Have it run, in the background; how it is when it answers. Fine if it runs.

        DaemonUnavailable says why it does not start.
        """
        self._refuse_other()
        if status := self.status():
            return status
        said = self._run()
        deadline = time.monotonic() + _START
        while not (status := self.status()):  # who runs already may be about to listen, or to end
            if time.monotonic() > deadline or locks.holder(self._lock) is None:
                raise DaemonUnavailable(f"the daemon has ended again{said}", hint=f"{self.log} says more")
            time.sleep(_GLANCE)
        return status

    def stop(self, *, keep: bool = False) -> bool:
        """Have it end, with its guests; with *keep*, those of kept sandboxes run again when it is started again.

        When this returns it has ended; false if it did not run. DaemonUnavailable if it had to be killed.
        """
        self._refuse_other()
        if (pid := locks.holder(self._lock)) is None:
            return False
        from aegis_sdk.engine.exchange import Exchange  # late, as above

        with suppress(DaemonUnavailable):  # it may be about to end, or unable to answer
            Exchange(self._socket).tell("POST", "end", body={"keep": keep}, limit=_ANSWER)
        if self._until(lambda: locks.holder(self._lock) != pid, _END):
            return True
        self._kill(pid)
        raise DaemonUnavailable(
            f"the daemon, process {pid}, has not ended in {_END:.0f} s, and was killed; its guests ended with it",
            hint=f"{self.log} may say why",
        )

    def check(self) -> tuple[Check, ...]:
        """What the doctor says of it, and of its router."""
        try:
            status = self.status()
        except DaemonUnavailable as error:
            return (Check(name="daemon", ok=False, seen=error.message, fix="aegis down", required=False),)
        if status is None:
            from aegis_sdk.engine.checks import of_router_port  # late, as above

            return self._stopped(), of_router_port(self._config.router_port)
        return _running(status), _routing(status)

    def _stopped(self) -> Check:
        if self._socket.is_socket():
            seen = "not running, and not ended in order: its sockets are still there"
            return Check(name="daemon", ok=False, seen=seen, fix="aegis up", required=False)
        return Check(name="daemon", ok=True, seen="not running; `aegis up` starts it", required=False)

    def _run(self) -> str:
        """Start it, and wait until it answers or has ended; what it said if another one runs."""
        environment = {**self._config.environ, **self.settings}
        try:
            done = subprocess.run(
                [*self.command, "--detached"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                timeout=_START,
                check=False,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            raise DaemonUnavailable(
                f"the daemon has not answered for {_START:.0f} s", hint=f"{self.log} may say why"
            ) from None
        said = "".join(f"\n  | {line}" for line in done.stderr.splitlines()[-20:])
        if done.returncode not in (0, _RUNS_ALREADY):
            raise DaemonUnavailable(f"the daemon does not start:{said}", hint=f"{self.log} may say more")
        return said

    def _refuse_other(self) -> None:
        if self._socket != self._config.socket:
            raise InvalidValue(
                f"AEGIS_HOST names {self._socket}, which is not the daemon of this home, {self._config.home}",
                hint="unset AEGIS_HOST, or set AEGIS_HOME to the other one's home",
            )

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            if locks.holder(self._lock) == pid:
                os.kill(pid, signal.SIGKILL)
        self._until(lambda: locks.holder(self._lock) != pid, _ANSWER)

    def _until(self, true: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                return False
            time.sleep(_GLANCE)
        return True

    def __repr__(self) -> str:
        return f"<Daemon of {self._config.home}>"


def _running(status: DaemonStatus) -> Check:
    ours = aegis_sdk.__version__
    runs = f"process {status.pid}, version {status.version}"
    if status.version != ours:
        seen = f"{runs}, and this is {ours}"
        return Check(name="daemon", ok=False, seen=seen, fix="aegis down && aegis up", required=False)
    return Check(name="daemon", ok=True, seen=runs, required=False)


def _routing(status: DaemonStatus) -> Check:
    if status.router:
        return Check(name="router port", ok=True, seen=f"the router answers at {status.router}", required=False)
    fix = "aegis down && AEGIS_ROUTER_PORT=0 aegis up"
    return Check(name="router port", ok=False, seen=status.router_fault, fix=fix, required=False)
