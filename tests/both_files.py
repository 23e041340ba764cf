"""The files of a guest by both faces: AsyncFiles are used as if they were Files."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import aegis_sdk as aegis


class Awaited:
    """Awaits whatever its object gives, and wraps what has a face of its own."""

    def __init__(self, runner: asyncio.Runner, face: Any) -> None:
        self._runner, self._face = runner, face

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._face, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            return self._wrapped(self._wait(result) if inspect.isawaitable(result) else result)

        return call

    def __iter__(self) -> Any:
        pieces = aiter(self._face)
        try:
            while True:
                yield self._wait(anext(pieces))
        except StopAsyncIteration:
            pass
        finally:
            if hasattr(pieces, "aclose"):
                self._wait(pieces.aclose())

    def __enter__(self) -> Any:
        self._wait(self._face.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._wait(self._face.__aexit__(*error))

    def _wait(self, what: Any) -> Any:
        async def wait() -> Any:
            return await what

        return self._runner.run(wait())

    def _wrapped(self, value: Any) -> Any:
        return Awaited(self._runner, value) if hasattr(value, "__aenter__") else value


@pytest.fixture(params=["sync", "async"])
def files(request: pytest.FixtureRequest, sandbox: aegis.Sandbox) -> Iterator[Any]:
    """The files of a guest: Files, or AsyncFiles with each call awaited."""
    sandbox.shell("rm -rf /tmp/* /workspace/* /run/files", check=True)
    if request.param == "sync":
        yield sandbox.files
        return
    with asyncio.Runner() as runner:
        yield Awaited(runner, aegis.AsyncFiles(sandbox.files))
