"""What apps and sandboxes are called."""

from __future__ import annotations

import re

from aegis_sdk.errors import AppNotFound, InvalidValue

_NAME = re.compile(
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)  # a label of a host name (RFC 1123), which an app's name becomes
_NAME_OR_ID = re.compile(r"[a-z0-9_-]{1,63}")
_SHOWN = 80


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
