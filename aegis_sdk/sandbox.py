"""A microVM under a user's hand."""

from __future__ import annotations

import builtins
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self, TypedDict, Unpack

import attrs

from aegis_sdk.completion import checked, listeners
from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_here
from aegis_sdk.errors import (
    DaemonUnavailable,
    InvalidValue,
    NameTaken,
    SandboxClosed,
    SandboxNotFound,
)
from aegis_sdk.files import Files
from aegis_sdk.guest_network import GuestNetwork, explained
from aegis_sdk.image import Image, listener
from aegis_sdk.model import (
    Cause,
    Command,
    Completed,
    Ending,
    LogEntry,
    Network,
    Port,
    Progress,
    SandboxInfo,
    SandboxSpec,
)
from aegis_sdk.mount import Mounts
from aegis_sdk.output import Tell
from aegis_sdk.place import InSandbox
from aegis_sdk.process import Process, deadline_after, seconds_of_grace, to_bytes

_GLANCE = 0.25  # Ctrl-C is heard in between, whichever thread the kernel gives it to


class Options(TypedDict, total=False):
    """What a sandbox can be asked to be, beside its image and its name."""

    memory: int
    cpus: int
    disk: int | None
    processes: int | None
    writable: bool
    pull: str
    progress: Callable[[Progress], None] | None
    driver: str | None
    nested: bool
    mounts: Mounts
    network: str | Network


class Sandbox:
    """A microVM of its own: it runs when this returns, and is gone when it is closed or nobody holds it any more.

    *image* is what fills its file system: an Image, or a reference as for ``docker pull``, which is pulled first if it
    is not here, as *progress* hears; with *pull* ``always`` its registry is asked each time, with ``never`` not at all.
    *memory* is in MiB; so is *disk*, what files may take in the guest, which keeps them in its memory: about two thirds
    of it by default. *processes* is how many may run in it, four for each MiB by default. *writable* puts a throw-away
    layer over the read-only root. *driver* is ``auto``, or the name of one. With *nested* the guest can run machines of
    its own: it has a /dev/kvm. *mounts* are directories of the host that it sees: Mounts, or where in the guest is to
    be what, as in ``{"/workspace": "./project"}``. *network* is what it may reach: ``public``, ``none``, ``full``, or a
    Network with rules. With *name*, which no other sandbox of its engine has, it is found
    again by ``get``; with *keep*, which takes the daemon's engine, it outlives this object and this program, until
    ``remove``. Unavailable says what this machine lacks, ImageNotFound and
    ImageFailed what is wrong with the image, BootFailed which step of the boot went wrong.
    """

    def __init__(
        self,
        image: str | Image = "base",
        *,
        memory: int = 512,
        cpus: int = 1,
        disk: int | None = None,
        processes: int | None = None,
        writable: bool = False,
        pull: str = "missing",
        progress: Callable[[Progress], None] | None = None,
        driver: str | None = None,
        nested: bool = False,
        mounts: Mounts = (),
        network: str | Network = "public",
        name: str | None = None,
        keep: bool = False,
        engine: Engine | None = None,
    ) -> None:
        reference, digest = (image.reference, image.info.digest) if isinstance(image, Image) else (image, None)
        spec = SandboxSpec(
            image=reference,
            digest=digest,
            memory=memory,
            cpus=cpus,
            disk=disk,
            processes=processes,
            writable=writable,
            pull=pull,
            driver=driver,
            nested=nested,
            mounts=mounts,
            network=network,
            name=name,
            keep=keep,
        )
        engine = engine or (image.engine if isinstance(image, Image) else engine_here())
        self._hold(engine, engine.create(spec, report=listener(progress)), ours=not keep)

    @classmethod
    def get(cls, name: str, *, engine: Engine | None = None) -> Self:
        """The sandbox of that name or ID, whoever has made it; SandboxNotFound.

        Closing this object, or leaving its ``with`` block, ends only the commands that were started by it.
        """
        engine = engine or engine_here()
        possible = name and "/" not in name  # which leads elsewhere over HTTP
        if possible and (info := engine.info(name)):
            return cls._of(engine, info)
        raise SandboxNotFound(
            f"there is no sandbox {name or repr(name)}",
            hint="those of the daemon: `aegis sandbox list`, and in Python engine=aegis.connect(), or AEGIS_HOST",
        )

    @classmethod
    def list(cls, *, engine: Engine | None = None) -> builtins.list[Self]:
        """All sandboxes of the engine, in the order in which they were made, each as from ``get``."""
        engine = engine or engine_here()
        return [cls._of(engine, info) for info in engine.sandboxes()]

    @classmethod
    def connect_or_create(
        cls,
        name: str,
        image: str | Image = "base",
        *,
        keep: bool = True,
        engine: Engine | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """The sandbox of that name, booted again if it has ended; if there is none, a new one that is as asked for."""
        engine = engine or (image.engine if isinstance(image, Image) else engine_here())
        while True:
            with suppress(SandboxNotFound):  # also if it is removed this moment
                found = cls.get(name, engine=engine)
                found.boot()
                return found
            with suppress(NameTaken):  # somebody else was faster
                return cls(image, name=name, keep=keep, engine=engine, **options)

    @classmethod
    def _of(cls, engine: Engine, info: SandboxInfo) -> Self:
        found = cls.__new__(cls)
        cls._hold(found, engine, info, ours=False)
        return found

    def _hold(self, engine: Engine, info: SandboxInfo, *, ours: bool) -> None:
        self._engine, self._info = engine, info
        self._processes: set[Process] = set()
        self._ending: Ending | None = None  # until it is closed
        end = partial(_remove, engine, info.id) if ours else _nothing
        self._close = weakref.finalize(self, _let_go, end, os.getpid(), self._processes)

    @property
    def id(self) -> str:
        """Its name among all sandboxes."""
        return self._info.id

    @property
    def name(self) -> str | None:
        """The name that it was given, if any."""
        return self._info.name

    @property
    def files(self) -> Files:
        """Its files: read, write, list, upload, download, watch, and more."""
        return Files(self._engine, self._info)

    @property
    def network(self) -> GuestNetwork:
        """What it may reach, and has tried to: ``policy``, ``events()``, ``update(...)``."""
        return GuestNetwork(self._engine, self.id)

    def info(self) -> SandboxInfo:
        """What it is, how its boot went, and what it does now: also when it has ended."""
        if now := self._engine.info(self.id):
            return now
        return attrs.evolve(self._info, state=self._how_it_ended().state, pid=None)

    def logs(self) -> str:
        """The end of what the guest's console has said, at most 64 KiB of it, also when it has ended."""
        now = self._engine.logs(self.id)
        return self._how_it_ended().console if now is None else now

    def history(self, *, follow: bool = False, since: int = 0, tail: int | None = None) -> Iterator[LogEntry]:
        """What the daemon has kept of what its console said, and of what was done with it, since it was made.

        The entries after number *since*, and of these the last *tail*; with *follow* also what comes, until it
        ends. Unavailable where no daemon keeps such.
        """
        return self._engine.sandbox_logs(self.id, follow=follow, since=since, tail=tail)

    def run(
        self,
        *argv: str,
        input: bytes | str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        check: bool = False,
        on_stdout: Tell | None = None,
        on_stderr: Tell | None = None,
    ) -> Completed:
        """Run a command to its end; a non-zero exit is a result, not an error, unless *check* says so.

        After *timeout* seconds the command and its children are ended: SIGTERM, 5 s, SIGKILL. *env* adds to the image's
        environment; *user* is a name or a number, with ``:group`` if wanted; it and *cwd* are the image's by default,
        as is the command itself when none is given: ENTRYPOINT and CMD. GuestDied if the guest ends first.

        *on_stdout* and *on_stderr* are called with each piece of text as it comes: together the pieces are the result's
        ``stdout`` and ``stderr``, which also keep the bytes. The command waits while they run; what one of them raises
        ends it, and is raised here.
        """
        deadline_after(timeout)  # what is wrong is refused before anything runs
        heard_by = listeners(on_stdout=on_stdout, on_stderr=on_stderr)
        data = None if input is None else to_bytes(input)
        began = time.time()
        with self.start(*argv, stdin=input is not None, env=env, cwd=cwd, user=user) as process:
            completed = process.complete(input=data, timeout=timeout, heard_by=heard_by)
        completed = explained(self.network, completed, since=began)
        return checked(completed) if check else completed

    def shell(
        self,
        script: str,
        *,
        input: bytes | str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        check: bool = False,
        on_stdout: Tell | None = None,
        on_stderr: Tell | None = None,
    ) -> Completed:
        """Run *script* by the image's /bin/sh; otherwise as ``run``."""
        return self.run(
            "/bin/sh",
            "-c",
            script,
            input=input,
            env=env,
            cwd=cwd,
            user=user,
            timeout=timeout,
            check=check,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
        )

    def start(
        self,
        *argv: str,
        stdin: bool = False,
        tty: bool | tuple[int, int] = False,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
    ) -> Process:
        """Start a command and give it back while it runs; with *stdin* it can be written to.

        With *tty* it has a terminal, of 24 rows and 80 columns, or of the (rows, cols) that are given: what is written
        is typed there (byte 3 is Ctrl-C), all output is ``stdout``, and TERM is ``xterm-256color`` unless *env* or
        the image says otherwise.
        """
        if not isinstance(env, (Mapping, type(None))):
            raise InvalidValue(f"env must map names to values, not {env!r}")
        command = Command.of(self._info.config, argv, env=env or {}, cwd=cwd, user=user, stdin=stdin, tty=tty)
        process = Process(InSandbox(self._engine, self.id), command, on_end=self._processes.discard)
        self._processes.add(process)  # a command runs on when its caller forgets it
        return process

    def expose(self, port: int, *, protocol: str = "http", local: int | None = None) -> str:
        """Have *port* of the guest be reached from this machine until the guest ends; where that is.

        For HTTP it is a URL of the router; with *protocol* ``tcp`` a port of this machine's, ``127.0.0.1:15432``:
        *local*, or any that is free. What listens in the guest may do so on its own loopback. PortTaken.
        """
        return self._engine.expose(self.id, Port(port, protocol, local))

    def conceal(self, port: int, *, protocol: str = "http") -> None:
        """Have *port* of the guest be reached no more; connections that are open stay. Fine if it is not exposed."""
        self._engine.conceal(self.id, Port(port, protocol))

    def pause(self) -> None:
        """Stop the guest where it is: it takes memory, and no processor time. What is asked of it waits. Fine twice."""
        self._engine.pause(self._info.id)

    def resume(self) -> None:
        """Let a paused guest go on; its clock is right. Fine if it runs."""
        self._engine.resume(self._info.id)

    def wait(self, timeout: float | None = None) -> Ending:
        """Wait for the guest's end, and say how it ended; TimeoutError after *timeout* seconds, and it runs on."""
        deadline = deadline_after(timeout)
        while True:
            left = _GLANCE if deadline is None else max(0.0, deadline - time.monotonic())
            if ending := self._engine.ending(self.id, timeout=min(left, _GLANCE)):
                return self._how_it_ended() if ending.cause is Cause.CLOSED else ending
            if left <= 0:
                raise TimeoutError(f"the sandbox {self.id} runs on after {timeout} s")

    def stop(self, grace: float = 5.0) -> None:
        """End the guest in order: SIGTERM for all that runs in it, then it powers off.

        It is killed when *grace* seconds are over, of which its commands have four fifths. Who waits for one of them
        gets GuestDied. A paused guest goes on for it. Fine if it has ended; ``close`` is still to come.
        """
        self._engine.stop(self.id, grace=seconds_of_grace(grace))

    def kill(self) -> None:
        """End the guest at once, with all that runs in it. Fine if it has ended; ``close`` is still to come."""
        self._engine.stop(self.id, grace=0.0)

    def boot(self) -> None:
        """Boot it again if it has ended, as it was asked for at first; fine if it runs. Its files are new."""
        self._info = self._engine.start(self.id, report=listener(None))

    def close(self) -> None:
        """End the guest at once, with all that runs in it, and give back all that it used; fine if it has ended.

        One that is kept, or was made by somebody else, runs on: only the commands end that were started here.
        """
        self._ending = self._close() or self._ending

    def remove(self) -> None:
        """End the guest at once, and give back all that it used, also if it is kept; fine if it is gone."""
        self._ending = self._engine.remove(self.id) or self._ending
        self.close()

    def _how_it_ended(self) -> Ending:
        return self._ending or Ending(cause=Cause.CLOSED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sandbox {self.name or self.id} image={self._info.image!r} {self._state()}>"

    def _state(self) -> str:
        """In a word, what it does now; in a forked child, where it is nobody's, it is closed."""
        with suppress(SandboxClosed):
            return self.info().state.lower() if self._close.alive else "closed"
        return "closed"

    def _repr_html_(self) -> str:
        from aegis_sdk import display

        return display.of_sandbox(self._info, state=self._state())


def _let_go(end: Callable[[], Ending | None], owner: int, processes: set[Process]) -> Ending | None:
    # A forked child holds a copy of the object, not the sandbox.
    if os.getpid() != owner:
        return None
    try:
        return end()
    finally:
        for process in list(processes):
            process.close()


def _remove(engine: Engine, sandbox: str) -> Ending | None:
    try:
        return engine.remove(sandbox)
    except DaemonUnavailable:  # what is not kept ends with the daemon, or when it misses us
        return None


def _nothing() -> None:
    return None
