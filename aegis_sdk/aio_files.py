"""The files of a sandbox for asyncio: each call runs the synchronous one in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial, update_wrapper
from types import TracebackType
from typing import IO, Any, Concatenate, ParamSpec, Self, TypeVar

from aegis_sdk.awaiting import awaitable, each, in_thread
from aegis_sdk.entries import Change
from aegis_sdk.files import Files, GuestPath, Watch

P = ParamSpec("P")
T = TypeVar("T")


def ended(
    method: Callable[Concatenate[Files, P], T],
) -> Callable[Concatenate[AsyncFiles, P], Coroutine[Any, Any, T]]:
    """The asynchronous face of a method of Files; a call that is cancelled is ended."""

    async def wrapper(self: AsyncFiles, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await _run(self, lambda files: method(files, *args, **kwargs))

    update_wrapper(wrapper, method)
    return wrapper


async def _run(face: AsyncFiles, call: Callable[[Files], T], *, dispose: Callable[[T], None] = lambda _: None) -> T:
    files = face.sync.apart()
    try:
        return await in_thread(lambda: call(files), dispose=dispose)
    except asyncio.CancelledError:
        files.hang_up()
        raise


class AsyncFiles:
    """What a sandbox's files can be asked for; as ``Files``, with ``await``."""

    def __init__(self, sync: Files) -> None:
        self.sync = sync

    read = ended(Files.read)
    read_text = ended(Files.read_text)
    write = ended(Files.write)
    append = ended(Files.append)
    list = ended(Files.list)
    stat = ended(Files.stat)
    exists = ended(Files.exists)
    mkdir = ended(Files.mkdir)
    move = ended(Files.move)
    remove = ended(Files.remove)
    chmod = ended(Files.chmod)
    chown = ended(Files.chown)
    upload = ended(Files.upload)
    download = ended(Files.download)

    async def open(self, path: GuestPath, mode: str = "r", **options: Any) -> AsyncFile:  # Any: as for Files.open
        """Open a file, as ``Files.open``: ``async with await vm.files.open(...) as file``."""
        return AsyncFile(await _run(self, lambda files: files.open(path, mode, **options), dispose=_close))

    async def watch(self, path: GuestPath, *, recursive: bool = False, user: str | None = None) -> AsyncWatch:
        """Watch for changes, as ``Files.watch``: ``async with await vm.files.watch(...) as changes``."""
        watch = partial(Files.watch, path=path, recursive=recursive, user=user)
        return AsyncWatch(await _run(self, watch, dispose=Watch.close))


def _close(file: IO[Any]) -> None:
    file.close()


class AsyncFile:
    """An open file; as Python's own, with ``await``, and ``async for`` over its lines."""

    def __init__(self, sync: IO[Any]) -> None:
        self.sync = sync

    async def read(self, size: int = -1) -> Any:  # Any: bytes or text, as the file was opened
        """Up to *size* bytes or characters, by default all that is left."""
        return await in_thread(lambda: self.sync.read(size))

    async def readline(self) -> Any:  # Any: bytes or text, as the file was opened
        """The next line, empty at the end."""
        return await in_thread(self.sync.readline)

    async def write(self, data: Any) -> int:  # Any: bytes or text, as the file was opened
        """Write *data*; it is in the guest after ``flush`` or ``close``."""
        return await in_thread(lambda: self.sync.write(data))

    async def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the file; where that is from its beginning."""
        return await in_thread(lambda: self.sync.seek(offset, whence))

    async def tell(self) -> int:
        """Where in the file it is."""
        return await in_thread(self.sync.tell)

    async def truncate(self, size: int | None = None) -> int:
        """Make the file so long, by default up to where it is."""
        return await in_thread(lambda: self.sync.truncate(size))

    async def flush(self) -> None:
        """Have the guest get what was written."""
        await in_thread(self.sync.flush)

    async def close(self) -> None:
        """Have the guest get what was written, and close it there."""
        await in_thread(self.sync.close)

    def __aiter__(self) -> AsyncIterator[Any]:
        return each(iter(self.sync))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncWatch:
    """What changes, as it happens: ``async for change in watch``."""

    def __init__(self, sync: Watch) -> None:
        self.sync = sync

    close = awaitable(Watch.close)

    def __aiter__(self) -> AsyncIterator[Change]:
        return each(self.sync)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
