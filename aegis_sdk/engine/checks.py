"""What ``aegis doctor`` asks of the engine in this process, each thing with what was found."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from aegis_sdk.artifacts import private
from aegis_sdk.drivers.base import Driver
from aegis_sdk.drivers.choice import choose
from aegis_sdk.errors import AegisError, PortTaken, StoreFailed
from aegis_sdk.model import Check, PluginInfo

if TYPE_CHECKING:
    from aegis_sdk.store.secrets import SecretRecords

_FREE_DISK = 200 << 20
_SHOWN = 5  # secrets


def of_drivers(wanted: str, drivers: dict[str, Driver]) -> Iterator[Check]:
    """Which one is chosen, what it needs, and, as nothing that is required, what the others lack."""
    try:
        choice = choose(wanted, drivers)
        chosen = choice.driver
        yield Check(name="driver", ok=True, seen=f"{chosen.name}: {choice.reason}")
    except AegisError as error:
        # The lacks of the last one are told for which there is something to do.
        last_first = list(reversed(drivers.values()))
        mendable = next((driver for driver in last_first if driver.why_not()[1]), last_first[0])
        chosen = drivers.get(wanted, mendable)
        yield Check(name="driver", ok=False, seen=error.message, fix=error.hint)
    seen = {check.name: check for check in chosen.check()}
    yield from seen.values()
    for driver in drivers.values():
        for check in driver.check():
            if check.name not in seen:
                yield attrs.evolve(check, required=False)


def of_plugins(plugins: Iterable[PluginInfo]) -> Iterator[Check]:
    for plugin in plugins:
        if plugin.error:
            seen = f"{plugin.name} of {plugin.origin} was not loaded: {plugin.error}"
            yield Check(name="plugin", ok=False, seen=seen, required=False)


def _free(directory: Path) -> int:
    about = os.statvfs(directory)
    return about.f_bavail * about.f_frsize


def of_home(home: Path) -> Check:
    try:
        private(home)
        free = _free(home)
    except OSError as error:
        return Check(name="home", ok=False, seen=f"{home} cannot be made: {error.strerror}", fix="set AEGIS_HOME")
    if not os.access(home, os.W_OK | os.X_OK):
        return Check(name="home", ok=False, seen=f"{home} cannot be written to", fix=f"sudo chown -R $USER {home}")
    if free < _FREE_DISK:
        return Check(
            name="home", ok=False, seen=f"{home} has {free >> 20} MiB free, of 200 needed", fix="free some space"
        )
    return Check(name="home", ok=True, seen=f"{home}, {free >> 30} GiB free")


def of_router_port(port: int) -> Check:
    """Whether a daemon that is to be started could have its router listen there."""
    from aegis_sdk.routing.listener import HOST, listen  # late: asyncio costs more than the rest

    try:
        listen(port).close()
    except PortTaken as error:
        seen = f"the router {error.message}; {error.hint}"
        return Check(name="router port", ok=False, seen=seen, fix="AEGIS_ROUTER_PORT=0 aegis up", required=False)
    seen = f"{HOST}:{port} is free" if port else f"any free port of {HOST}"
    return Check(name="router port", ok=True, seen=seen, required=False)


def of_store(secrets: SecretRecords) -> Iterator[Check]:
    """The records, and, if they can be used, the key file and each secret that its keys do not open."""
    database = secrets.database
    try:
        there = database.check()
    except StoreFailed as error:
        yield Check(name="records", ok=False, seen=error.message, fix=error.hint)
        return
    yield Check(name="records", ok=True, seen=str(database.path) if there else "none yet")
    try:
        yield from _of_key(secrets, secrets.unreadable() if there else ())
    except StoreFailed as error:
        yield Check(name="master key", ok=False, seen=error.message, fix=error.hint, required=False)


def _of_key(secrets: SecretRecords, unreadable: tuple[AegisError, ...]) -> Iterator[Check]:
    there = bool(secrets.keys.read())
    for lost in unreadable[:_SHOWN]:
        yield Check(name="master key", ok=False, seen=lost.message, fix=lost.hint, required=False)
    if (more := len(unreadable) - _SHOWN) > 0:
        yield Check(name="master key", ok=False, seen=f"nor can {more} more secrets be decrypted", required=False)
    if not unreadable:
        seen = str(secrets.keys.path) if there else "none yet: the first secret makes it"
        yield Check(name="master key", ok=True, seen=seen)
