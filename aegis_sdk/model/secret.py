"""Secrets: of one app, or of all."""

from __future__ import annotations

import re

import attrs

from aegis_sdk.errors import InvalidValue

#: Bytes that a secret's value may take.
LARGEST_SECRET = 64 << 10

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def secret_name(name: str) -> str:
    """*name*, if a secret, which becomes an environment variable, can be called that."""
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        raise InvalidValue(
            f"{name!r} cannot be the name of a secret",
            hint="it becomes an environment variable: use letters, digits and underscores, such as API_KEY",
        )
    return name


class SecretValue(bytes):
    """What is not to be seen, in no log, message or traceback."""

    def __repr__(self) -> str:
        return "<a secret's value>"

    __str__ = __repr__


def secret_value(value: str | bytes) -> SecretValue:
    """*value*, if a secret can have it; the error does not show it."""
    kind, encoded = type(value), _encoded(value)
    del value  # a traceback may show what is here
    if not issubclass(kind, (str, bytes)):
        raise InvalidValue(f"a secret's value must be text or bytes, not {kind.__name__}")
    if encoded is None or 0 in encoded:
        raise InvalidValue(
            "a secret's value must be UTF-8 text without NUL characters",
            hint="it becomes an environment variable: encode what is none, with base64 for example",
        )
    if len(encoded) > LARGEST_SECRET:
        raise InvalidValue(f"a secret's value may take {LARGEST_SECRET >> 10} KiB at most, not {len(encoded)} bytes")
    return encoded


def _encoded(value: str | bytes) -> SecretValue | None:
    try:
        return SecretValue((value.decode() if isinstance(value, bytes) else value).encode())
    except (UnicodeError, AttributeError):  # which hold the value, and so must not be another error's context
        return None


@attrs.frozen(kw_only=True)
class SecretInfo:
    """A secret without its value: of *app*, an ID, or of all apps if that is None; times in seconds since 1970."""

    name: str
    app: str | None
    created: float
    updated: float
