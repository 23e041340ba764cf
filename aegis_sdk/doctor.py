"""Whether this machine has what Aegis needs, and a guest that proves it; what extends Aegis here."""

from __future__ import annotations

import time

from aegis_sdk.daemon import Daemon
from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_here
from aegis_sdk.errors import AegisError
from aegis_sdk.model import Check, PluginInfo
from aegis_sdk.sandbox import Sandbox


def diagnose(*, quick: bool = False, engine: Engine | None = None) -> tuple[Check, ...]:
    """Each thing that Aegis needs, what was found, and the command that mends it; last, unless *quick*, a boot.

    Where no engine is named, the daemon of this home is looked at, too.
    """
    daemon = () if engine else Daemon().check()
    engine = engine or engine_here()
    checks = (*engine.check(), *daemon)
    if quick or not all(check.ok for check in checks if check.required):
        return checks
    can_make_base = all(check.ok for check in checks if check.name == "base image")
    return (*checks, _boot(engine, "base" if can_make_base else "alpine"))


def mend(*, engine: Engine | None = None) -> tuple[str, ...]:
    """Mend what Aegis lacks here and can mend by itself; what was done, each thing in words, and nothing if nothing."""
    return (engine or engine_here()).mend()


def _boot(engine: Engine, image: str) -> Check:
    start = time.monotonic()
    try:
        with Sandbox(image, engine=engine) as vm:
            said = vm.run("echo", "hello", timeout=30).stdout.strip()
    except AegisError as error:
        return Check(name="boot", ok=False, seen=error.message, fix=error.hint)
    took = time.monotonic() - start
    return Check(name="boot", ok=said == "hello", seen=f"a guest answered {said!r} after {took:.1f} s")


def list_plugins(*, engine: Engine | None = None) -> tuple[PluginInfo, ...]:
    """What is built in and what is installed, in the order in which it is asked, with what failed to load and why."""
    return (engine or engine_here()).plugins()
