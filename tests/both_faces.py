"""A guest by both faces: the asynchronous one is used as if it were the other, so that one source tests both."""

from __future__ import annotations

import asyncio
import inspect
import threading
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
        if inspect.isawaitable(value):
            return self._wait(value)
        if not callable(value):
            faces = (aegis.AsyncFiles, aegis.AsyncGuestNetwork)
            return Awaited(self._runner, value) if isinstance(value, faces) else value

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

        here = threading.current_thread() is threading.main_thread()
        return self._runner.run(wait()) if here else asyncio.run(wait())  # a loop belongs to its thread

    def _wrapped(self, value: Any) -> Any:
        return Awaited(self._runner, value) if hasattr(value, "__aenter__") else value


def _awaited(runner: asyncio.Runner, sandbox: aegis.Sandbox) -> Any:
    face = aegis.AsyncSandbox()
    face._sandbox = sandbox  # the one of all tests: they would take long if each booted its own
    return Awaited(runner, face)


@pytest.fixture(params=["sync", "async"])
def by_face(request: pytest.FixtureRequest, sandbox: aegis.Sandbox) -> Iterator[Any]:
    """A guest to run commands in: a Sandbox, or an AsyncSandbox with each call awaited."""
    if request.param == "sync":
        yield sandbox
        return
    with asyncio.Runner() as runner:
        yield _awaited(runner, sandbox)


@pytest.fixture
def files(sandbox: aegis.Sandbox, by_face: Any) -> Any:
    """The files of a guest: Files, or AsyncFiles with each call awaited."""
    sandbox.shell("rm -rf /tmp/* /workspace/* /run/files", check=True)
    return by_face.files
