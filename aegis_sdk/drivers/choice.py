"""Which driver boots a guest, and why that one."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from aegis_sdk.drivers.base import Driver
from aegis_sdk.errors import DriverUnavailable, InvalidValue


@attrs.frozen
class Choice:
    """A driver, and why it is this one."""

    driver: Driver
    reason: str


def choose(wanted: str, drivers: Mapping[str, Driver], *, nested: bool = False, shared: bool = False) -> Choice:
    """The driver of that name, or, for ``auto``, the first of *drivers* that can boot such a guest here.

    DriverUnavailable if it, or none of them, can; InvalidValue if there is none of that name.
    """
    if wanted == "auto":
        return _first(drivers, nested=nested, shared=shared)
    if driver := drivers.get(wanted):
        why, fix = driver.why_not(nested=nested, shared=shared)
        if why:
            raise DriverUnavailable(why, hint=fix)
        return Choice(driver, "it was asked for by name")
    raise InvalidValue(f"there is no driver {wanted!r}", hint=f"choose one of: auto, {', '.join(drivers)}")


def _first(drivers: Mapping[str, Driver], *, nested: bool, shared: bool) -> Choice:
    against: list[str] = []
    fixes: list[str] = []
    for driver in drivers.values():
        why, fix = driver.why_not(nested=nested, shared=shared)
        if not why:
            return Choice(driver, "; ".join(against) or "it is the first choice, and can be used here")
        against.append(f"not {driver.name}, because {why}")
        fixes.append(fix)
    hint = next((fix for fix in reversed(fixes) if fix), "")
    raise DriverUnavailable(f"nothing here can boot a guest: {'; '.join(against)}", hint=hint)
