"""Apps, and the secrets that are theirs or everybody's."""

from __future__ import annotations

import re

import attrs

from aegis_sdk.errors import AppNotFound, InvalidValue

_NAME = re.compile(
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)  # a label of a host name (RFC 1123), which an app's name becomes
#: Bytes that a secret's value may take.
LARGEST_SECRET = 64 << 10

_NAME_OR_ID = re.compile(r"[a-z0-9_-]{1,63}")
_SHOWN = 80
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def app_name(name: str) -> str:
    """*name*, if an app or a sandbox can be called that."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidValue(
            f"{name!r} cannot be a name",
            hint="use up to 63 lower-case letters, digits and hyphens, such as my-app-2",
        )
    return name


def app_reference(app: str) -> str:
    """*app*, if it can be the name or the ID of an app; AppNotFound, since nothing else is."""
    if not isinstance(app, str) or not _NAME_OR_ID.fullmatch(app):
        raise no_app(app)
    return app


def no_app(app: object) -> AppNotFound:
    """That there is no such app."""
    return AppNotFound(f"there is no app {repr(app)[:_SHOWN]}", hint="`aegis app list` shows those that there are")


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
class AppInfo:
    """An app; *created* in seconds since 1970, *workspace* the directory of the host that outlives its guests."""

    id: str
    name: str
    created: float
    workspace: str


@attrs.frozen(kw_only=True)
class SecretInfo:
    """A secret without its value: of *app*, an ID, or of all apps if that is None; times in seconds since 1970."""

    name: str
    app: str | None
    created: float
    updated: float
