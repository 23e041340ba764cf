"""The same objects for asyncio: each call runs the synchronous one in a thread of its own."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from types import TracebackType
from typing import Self, Unpack

from aegis_sdk.aio_files import AsyncFiles
from aegis_sdk.awaiting import awaitable, each, in_thread
from aegis_sdk.completion import checked, listeners
from aegis_sdk.engine.base import Engine
from aegis_sdk.errors import SandboxClosed
from aegis_sdk.guest_network import GuestNetwork, explained
from aegis_sdk.image import Image, listener
from aegis_sdk.model import Completed, LogEntry, Network, Progress
from aegis_sdk.mount import Mounts
from aegis_sdk.output import Output, Tell
from aegis_sdk.process import Process, StreamName, deadline_after, to_bytes
from aegis_sdk.sandbox import Options, Sandbox


class AsyncOutput:
    """One stream of a process: iterate over it, ``async for``, for its lines of text, as they come.

    A read that is cancelled loses what it was about to return: to give up in time and read on, use a time limit of the
    command's own.
    """

    def __init__(self, sync: Output) -> None:
        self.sync = sync

    read = awaitable(Output.read)
    read_bytes = awaitable(Output.read_bytes)
    readline = awaitable(Output.readline)

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in the pieces in which they come, to the end of the stream."""
        return each(self.sync.chunks())

    def __aiter__(self) -> AsyncIterator[str]:
        return each(iter(self.sync))


class AsyncProcess:
    """A running command; as ``Process``, with ``await`` where that one waits."""

    def __init__(self, sync: Process) -> None:
        self.sync = sync
        self.stdout = AsyncOutput(sync.stdout)
        self.stderr = AsyncOutput(sync.stderr)

    wait = awaitable(Process.wait)
    write = awaitable(Process.write)
    close_stdin = awaitable(Process.close_stdin)
    kill = awaitable(Process.kill)
    end = awaitable(Process.end)
    resize = awaitable(Process.resize)
    close = awaitable(Process.close)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, 128 + N after signal N; None while it runs."""
        return self.sync.exit_code

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed it; None if none did, or none yet."""
        return self.sync.signal

    @property
    def out_of_memory(self) -> bool:
        """Whether it was killed because the guest had no more memory."""
        return self.sync.out_of_memory

    @property
    def out_of_processes(self) -> bool:
        """Whether it was refused a process because there were too many in the guest; known when it has ended."""
        return self.sync.out_of_processes

    def output(self, timeout: float | None = None) -> AsyncIterator[tuple[StreamName, bytes]]:
        """Both streams, piece by piece as they come, each with the name of its stream; as ``Process.output``."""
        return each(self.sync.output(timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Async{repr(self.sync)[1:]}"

    def _repr_html_(self) -> str:
        return self.sync._repr_html_()


class AsyncGuestNetwork:
    """The network of a sandbox, as ``GuestNetwork``."""

    def __init__(self, sync: GuestNetwork) -> None:
        self.sync = sync

    events = awaitable(GuestNetwork.events)
    update = awaitable(GuestNetwork.update)

    @property
    def policy(self) -> Coroutine[None, None, Network]:
        """What it may reach now: ``await vm.network.policy``."""
        return self._policy()

    async def _policy(self) -> Network:
        return await in_thread(lambda: self.sync.policy)


class AsyncSandbox:
    """A microVM of its own, as ``Sandbox``; it boots when its ``async with`` block is entered."""

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
        self._make: Callable[..., Sandbox] | None = partial(
            Sandbox,
            image,
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
            engine=engine,
        )
        self._progress = listener(progress)
        self._sandbox: Sandbox | None = None  # a constructor cannot wait for a boot

    @classmethod
    async def get(cls, name: str, *, engine: Engine | None = None) -> Self:
        """The sandbox of that name or ID, as ``Sandbox.get``; it can be used at once, or by ``async with``."""
        return cls._of(await in_thread(partial(Sandbox.get, name, engine=engine)))

    @classmethod
    async def list(cls, *, engine: Engine | None = None) -> builtins.list[Self]:
        """All sandboxes of the engine, as ``Sandbox.list``."""
        return [cls._of(found) for found in await in_thread(partial(Sandbox.list, engine=engine))]

    @classmethod
    async def connect_or_create(
        cls,
        name: str,
        image: str | Image = "base",
        *,
        keep: bool = True,
        engine: Engine | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """The sandbox of that name, or a new one, as ``Sandbox.connect_or_create``."""
        make = partial(Sandbox.connect_or_create, name, image, keep=keep, engine=engine, **options)
        return cls._of(await in_thread(make, dispose=Sandbox.close))

    @classmethod
    def _of(cls, sync: Sandbox) -> Self:
        made = cls.__new__(cls)
        made.__dict__.update(_sandbox=sync, _make=None)
        return made

    boot = awaitable(Sandbox.boot)
    conceal = awaitable(Sandbox.conceal)
    expose = awaitable(Sandbox.expose)
    info = awaitable(Sandbox.info)
    logs = awaitable(Sandbox.logs)
    kill = awaitable(Sandbox.kill)
    pause = awaitable(Sandbox.pause)
    remove = awaitable(Sandbox.remove)
    resume = awaitable(Sandbox.resume)
    stop = awaitable(Sandbox.stop)
    wait = awaitable(Sandbox.wait)

    @property
    def sync(self) -> Sandbox:
        """The synchronous sandbox behind this one."""
        if self._sandbox is None:
            raise SandboxClosed(
                "this sandbox has not been booted", hint="use it in `async with aegis.AsyncSandbox() as vm:`"
            )
        return self._sandbox

    @property
    def id(self) -> str:
        """Its name among all sandboxes."""
        return self.sync.id

    @property
    def name(self) -> str | None:
        """The name that it was given, if any."""
        return self.sync.name

    @property
    def files(self) -> AsyncFiles:
        """Its files, as ``Sandbox.files``, with ``await``."""
        return AsyncFiles(self.sync.files)

    @property
    def network(self) -> AsyncGuestNetwork:
        """What it may reach, as ``Sandbox.network``: ``await vm.network.events()``."""
        return AsyncGuestNetwork(self.sync.network)

    def history(self, *, follow: bool = False, since: int = 0, tail: int | None = None) -> AsyncIterator[LogEntry]:
        """What the daemon has kept of what its console said, as ``Sandbox.history``."""
        return each(self.sync.history(follow=follow, since=since, tail=tail))

    async def run(
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
        """Run a command to its end, as ``Sandbox.run``; a cancelled call ends the command.

        *on_stdout* and *on_stderr* are called in the event loop; what they return is awaited if it can be.
        """
        deadline_after(timeout)  # what is wrong is refused before anything runs
        heard_by = listeners(on_stdout=on_stdout, on_stderr=on_stderr)
        data = None if input is None else to_bytes(input)
        sync, began = self.sync, time.time()
        async with await self.start(*argv, stdin=input is not None, env=env, cwd=cwd, user=user) as process:
            completion = process.sync.completion(input=data, timeout=timeout, heard_by=heard_by)
            while told := await in_thread(completion.next):
                tell, text = told
                if inspect.isawaitable(answer := tell(text)):
                    await answer
        explain = partial(explained, sync.network, completion.completed(), since=began)
        completed = await in_thread(explain)
        return checked(completed) if check else completed

    async def shell(
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
        return await self.run(
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

    async def start(
        self,
        *argv: str,
        stdin: bool = False,
        tty: bool | tuple[int, int] = False,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
    ) -> AsyncProcess:
        """Start a command and give it back while it runs, as ``Sandbox.start``: written to, or at a terminal."""
        sync = self.sync
        start = partial(sync.start, *argv, stdin=stdin, tty=tty, env=env, cwd=cwd, user=user)
        return AsyncProcess(await in_thread(start, dispose=Process.close))

    async def close(self) -> None:
        """End the guest at once, with all that runs in it; fine if it has ended or never ran."""
        if self._sandbox is not None:
            await in_thread(self._sandbox.close)

    async def __aenter__(self) -> Self:
        if self._make is None:  # it was there already
            return self
        left = threading.Event()

        def progress(said: Progress) -> None:
            if left.is_set():  # nobody waits for the image any more
                raise SandboxClosed("the task that booted this sandbox was cancelled")
            self._progress(said)

        try:
            self._sandbox = await in_thread(partial(self._make, progress=progress), dispose=Sandbox.close)
        except asyncio.CancelledError:
            left.set()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncSandbox {self._sandbox!r}>"

    def _repr_html_(self) -> str | None:
        return self._sandbox._repr_html_() if self._sandbox else None  # and then repr is shown
