"""Whether this machine has what Aegis needs, and a guest that proves it; what extends Aegis here."""

from __future__ import annotations

import time

from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_here
from aegis_sdk.errors import AegisError
from aegis_sdk.model import Check, PluginInfo
from aegis_sdk.sandbox import Sandbox


def diagnose(*, quick: bool = False, engine: Engine | None = None) -> tuple[Check, ...]:
    """Each thing that Aegis needs, what was found, and the command that mends it; last, unless *quick*, a boot."""
    engine = engine or engine_here()
    checks = engine.check()
    if quick or not all(check.ok for check in checks if check.required):
        return checks
    return (*checks, _boot(engine))


def _boot(engine: Engine) -> Check:
    start = time.monotonic()
    try:
        with Sandbox(engine=engine) as vm:
            said = vm.run("echo", "hello", timeout=30).stdout.strip()
    except AegisError as error:
        return Check(name="boot", ok=False, seen=error.message, fix=error.hint)
    took = time.monotonic() - start
    return Check(name="boot", ok=said == "hello", seen=f"a guest answered {said!r} after {took:.1f} s")


def list_plugins(*, engine: Engine | None = None) -> tuple[PluginInfo, ...]:
    """What is built in and what is installed, in the order in which it is asked, with what failed to load and why."""
    return (engine or engine_here()).plugins()
