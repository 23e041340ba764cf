"""An AsyncSandbox that a test calls as it calls a Sandbox: one source for both faces."""

from __future__ import annotations

import asyncio
from typing import Any

import aegis_sdk as aegis


class Awaited:
    """What runs commands in *sandbox* by the asynchronous face, each call in an event loop of its own."""

    def __init__(self, sandbox: aegis.Sandbox) -> None:
        self._face = aegis.AsyncSandbox()
        self._face._sandbox = sandbox  # the one of all tests: they would take long if each booted its own

    def run(self, *argv: str, **options: Any) -> aegis.Completed:
        return asyncio.run(self._face.run(*argv, **options))

    def shell(self, script: str, **options: Any) -> aegis.Completed:
        return asyncio.run(self._face.shell(script, **options))


def by_both_faces(face: str, sandbox: aegis.Sandbox) -> aegis.Sandbox | Awaited:
    """*sandbox*, or the same by its other face."""
    return sandbox if face == "sync" else Awaited(sandbox)
