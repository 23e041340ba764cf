"""What callers pass, checked where it becomes a value."""

from __future__ import annotations

from aegis_sdk.errors import InvalidValue


def text(name: str, value: str) -> None:
    """InvalidValue unless *value* is text that every system takes; *name* is what it is called."""
    if not isinstance(value, str):
        raise InvalidValue(f"{name} must be text, not {value!r}", hint="convert it with str(...)")
    if "\0" in value:
        raise InvalidValue(f"{name} cannot hold a NUL character: {value!r}")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{name} is not text that UTF-8 can hold: {value!r}") from error


def whole(name: str, value: int, *, at_least: int, at_most: int, unit: str = "") -> None:
    """InvalidValue unless *value* is a whole number in these bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidValue(f"{name} must be a whole number, not {value!r}")
    if not at_least <= value <= at_most:
        raise InvalidValue(f"{name} must be from {at_least} to {at_most}{unit}, not {value}")


def flag(name: str, value: object) -> None:
    """InvalidValue unless *value* is True or False: other things are true, too, and are not what was meant."""
    if not isinstance(value, bool):
        raise InvalidValue(f"{name} must be True or False, not {value!r}")
