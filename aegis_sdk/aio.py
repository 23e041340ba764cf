"""The same objects for asyncio: each call runs the synchronous one in a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from functools import partial, update_wrapper
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from aegis_sdk.completion import listeners
from aegis_sdk.engine.base import Engine
from aegis_sdk.errors import SandboxClosed
from aegis_sdk.image import Image, listener
from aegis_sdk.model import Completed, Progress
from aegis_sdk.mount import Mounts
from aegis_sdk.output import Output, Tell
from aegis_sdk.process import Process, StreamName, deadline_after, to_bytes
from aegis_sdk.sandbox import Sandbox, checked

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

_AWAKE = 0.5  # seconds


class _Face(Protocol[S_co]):
    @property
    def sync(self) -> S_co: ...


def in_thread(call: Callable[[], T], *, dispose: Callable[[T], None] = lambda _: None) -> asyncio.Future[T]:
    """The result of *call*, made in a new thread; *dispose* takes it if nobody waits for it any more.

    Not in asyncio's own pool: that has a handful of threads, and commands that wait for each other would use them up.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def succeed(value: T) -> None:
        if future.cancelled():
            threading.Thread(target=dispose, args=(value,), name="aegis-dispose", daemon=True).start()
        else:
            future.set_result(value)

    def fail(error: BaseException) -> None:
        if not future.cancelled():
            future.set_exception(error)

    def work() -> None:
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to who waits
            _tell(loop, partial(fail, error))
            return
        if not _tell(loop, partial(succeed, value)):
            dispose(value)

    threading.Thread(target=work, name="aegis-call", daemon=True).start()
    _keep_awake(loop, future)
    return future


def _keep_awake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
    """Wake the loop twice a second until *future* is done: in a notebook, an interrupt waits for that.

    Because of https://github.com/ipython/ipykernel/issues/881.
    """
    timer: asyncio.TimerHandle

    def wake() -> None:
        nonlocal timer
        timer = loop.call_later(_AWAKE, wake)

    wake()
    future.add_done_callback(lambda _: timer.cancel())


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> bool:
    """Have the loop call *what*; false if it was closed, and nobody waits any more."""
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:
        return False
    return True


def awaitable(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[_Face[S], P], Coroutine[Any, Any, T]]:
    """The asynchronous face of a synchronous method."""

    async def wrapper(self: _Face[S], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await in_thread(lambda: method(self.sync, *args, **kwargs))

    update_wrapper(wrapper, method)
    return wrapper


async def _each(pieces: Iterator[T]) -> AsyncIterator[T]:
    end = object()
    while (piece := await in_thread(lambda: next(pieces, end))) is not end:
        yield piece  # type: ignore[misc]  # a T, since it is not the end


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
        return _each(self.sync.chunks())

    def __aiter__(self) -> AsyncIterator[str]:
        return _each(iter(self.sync))


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
        return _each(self.sync.output(timeout))

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
        engine: Engine | None = None,
    ) -> None:
        self._make = partial(
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
            engine=engine,
        )
        self._progress = listener(progress)
        self._sandbox: Sandbox | None = None  # a constructor cannot wait for a boot

    info = awaitable(Sandbox.info)
    logs = awaitable(Sandbox.logs)
    kill = awaitable(Sandbox.kill)
    pause = awaitable(Sandbox.pause)
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
        async with await self.start(*argv, stdin=input is not None, env=env, cwd=cwd, user=user) as process:
            completion = process.sync.completion(input=data, timeout=timeout, heard_by=heard_by)
            while told := await in_thread(completion.next):
                tell, text = told
                if inspect.isawaitable(answer := tell(text)):
                    await answer
        return checked(completion.completed()) if check else completion.completed()

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
