"""One boot of an instance: its sandbox, the server in it, and what both say."""

from __future__ import annotations

import hashlib
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

import attrs

from aegis_sdk.engine.attempts import Attempts
from aegis_sdk.engine.booting import Hearers
from aegis_sdk.engine.idleness import Look
from aegis_sdk.engine.instance_base import End
from aegis_sdk.engine.loss import why_lost
from aegis_sdk.engine.tee import Seen, Tee
from aegis_sdk.errors import AegisError, GuestNotResponding, SandboxClosed, ServerFailed
from aegis_sdk.guest import ports, requests
from aegis_sdk.guest.activity import activity
from aegis_sdk.guest.channel import Channel
from aegis_sdk.model import Ending, Exit, Progress, ReleaseInfo, printable, signal_name
from aegis_sdk.mount import Mount
from aegis_sdk.routing.base import Asleep
from aegis_sdk.store.logs import Log

if TYPE_CHECKING:
    from aegis_sdk.engine.local import LocalEngine

_SERVER = "server"
_ANSWER = 10.0  # for what a harness does at once, on a host that is busy
_MOMENT = 1.0
_GLANCE = 0.02
_TAIL, _LAST_LINES = 4 << 10, 10
_KEY = os.urandom(32)


@attrs.frozen
class _Console:
    """Writes down what a guest's console says, and tells of its end."""

    log: Log
    died: Callable[[str], None]

    def said(self, data: bytes) -> None:
        self.log.feed("boot", data)

    def ended(self, ending: Ending) -> None:
        self.died(f"its guest has ended: {ending}")


@attrs.define
class _Voice:
    """Writes down what a server says, and knows the end of it."""

    log: Log
    tail: bytes = b""

    @property
    def unfinished(self) -> bool:
        return self.log.unfinished

    def feed(self, _: str, data: bytes) -> None:
        self.log.feed("server", data)
        self.tail = (self.tail + data[-_TAIL:])[-_TAIL:]

    def flush(self) -> None:
        self.log.flush()

    def last_words(self) -> str:
        """The last lines, to be put behind a message."""
        lines = printable(self.tail.decode("utf-8", "replace").replace("\r\n", "\n")).splitlines()[-_LAST_LINES:]
        return "".join(f"\n  | {line}" for line in ("it said last:", *lines)) if lines else ""


class ServerGuest:
    """A guest of *engine* with the server of *release* in it; *died* is told how it ended, in the machine's thread."""

    def __init__(
        self, engine: LocalEngine, name: str, release: ReleaseInfo, *, log: Log, died: Callable[[str], None]
    ) -> None:
        self.name = name
        self._engine, self._release, self._died = engine, release, died
        self._voice = _Voice(log)
        self._given: bytes | None = None  # what the secrets were that it was booted with, once it was
        self._giving = threading.Lock()
        self._server: socket.socket | None = None  # the connection of its server's process, while it is used
        self._tee: Tee | None = None
        self._reading = threading.Lock()

    def boot(self) -> None:
        spec, app = self._release.spec, self._release.app
        workspace = Mount(str(self._engine.apps.workspace(app)), "/workspace")
        with self._giving:
            secrets = self._engine.secrets.environment(app)
            self._given = _fingerprint(secrets)
        sandbox = attrs.evolve(spec.sandbox, name=self.name, mounts=(*spec.sandbox.mounts, workspace))
        log = self._voice.log
        hearers = Hearers(witness=_Console(log, self._died), tell=Attempts(log).tell)
        info = self._engine.create(sandbox, report=_unheard, hearers=hearers)
        self._server = self._engine.dial(self.name)
        self._tee = Tee(self._server, None, hearer=self._voice)
        command = spec.of(info.config, secrets=secrets)
        try:
            requests.start(Channel(self._server), _SERVER, command, deadline=time.monotonic() + _ANSWER)
        except OSError as error:
            raise self._lost() from error
        if spec.readiness_port is None:  # else who asks for its readiness waits for it
            self._await_start(self._tee)

    def await_ready(self) -> None:
        readiness, port = self._release.spec.readiness, self._release.spec.readiness_port
        if port is None:
            return
        try:
            with closing(Channel(self._engine.dial(self.name))) as channel:
                ports.ready(channel, _SERVER, port, interval=readiness.interval, timeout=readiness.timeout)
        except ServerFailed as error:
            raise ServerFailed(error.message + self._voice.last_words(), hint=error.hint) from error
        except (EOFError, OSError) as error:
            raise self._lost() from error

    def _await_start(self, tee: Tee) -> None:
        deadline = time.monotonic() + _ANSWER
        while not tee.started:
            if end := self.carry(deadline=time.monotonic() + _GLANCE):
                raise ServerFailed(end.words + end.said)
            if time.monotonic() > deadline:
                raise GuestNotResponding(f"the guest has not started the server within {_ANSWER:.0f} s")

    def carry(self, *, deadline: float) -> End | None:
        with self._reading:
            if not self._tee or not self._server:
                return End("its guest was ended")
            match self._tee.carry(deadline=deadline, listen=False):
                case Seen.LATE:
                    return None
                case Seen.EXITED if self._tee.exit:
                    self._voice.flush()
                    return _end(self._tee.exit, self._voice.last_words())
                case _:
                    return End(str(self._lost()))

    def look(self) -> Look:
        try:
            with closing(Channel(self._engine.dial(self.name))) as channel:
                seen = activity(channel, deadline=time.monotonic() + _ANSWER)
        except TimeoutError:  # who is that busy is not idle
            return Look(cpu=0.0, busy=True)
        except (EOFError, OSError) as error:
            raise self._lost() from error
        others = max(0, seen.commands - 1)  # than the server
        return Look(cpu=seen.cpu, busy=bool(seen.connections or others or seen.keepalive))

    def pause(self) -> None:
        self._engine.pause(self.name)

    def resume(self) -> None:
        self._engine.resume(self.name)
        if ending := self._engine.ending(self.name, timeout=0):
            raise ServerFailed(f"its guest has ended: {ending}")
        # What it said last before it stood still may have been the server's end.
        if self._says_something() and (end := self.carry(deadline=time.monotonic() + _GLANCE)):
            raise ServerFailed(end.words + end.said)

    def dial(self, port: int, *, timeout: float) -> socket.socket:
        with ExitStack() as undo:
            try:
                machine = undo.enter_context(self._engine.dial(self.name))
                ports.connect(machine, port, timeout=timeout)
            except (ConnectionRefusedError, TimeoutError):
                raise
            except (OSError, SandboxClosed) as error:
                if self._engine.ending(self.name, timeout=_MOMENT):
                    raise Asleep from error  # who asks has it woken, which boots it anew
                raise
            undo.pop_all()
        return machine

    def is_current(self) -> bool:
        with self._giving:
            given = self._given
        return given in (None, _fingerprint(self._engine.secrets.environment(self._release.app)))

    def end(self, grace: float) -> None:
        with suppress(AegisError):  # one that cannot be asked is ended all the same
            if grace:
                self._engine.stop(self.name, grace=grace)
        with suppress(AegisError):
            self._engine.remove(self.name)
        with self._reading:  # which its end has ended
            if self._server:
                self._server.close()
                self._server = None

    def _says_something(self) -> bool:
        if not self._server:
            return True
        poll = select.poll()
        poll.register(self._server, select.POLLIN)
        return bool(poll.poll(0))

    def _lost(self) -> AegisError:
        return why_lost(self._engine, self.name, "the server")


def _fingerprint(secrets: Mapping[str, str]) -> bytes:
    """What tells these secrets from others, and says nothing about them."""
    return hashlib.blake2b(json.dumps(sorted(secrets.items())).encode(), key=_KEY).digest()


def _end(end: Exit, last_words: str) -> End:
    if not end.code:
        return End("the server exited with code 0", crashed=False, said=last_words)
    how = f"was ended by {signal_name(end.signal)}" if end.signal else f"exited with code {end.code}"
    if end.out_of_memory:
        how += ", because the guest ran out of memory"
    elif end.out_of_processes:
        how += ", because the guest reached its limit of processes"
    return End(f"the server {how}", said=last_words)


def _unheard(_: Progress) -> None:
    pass
