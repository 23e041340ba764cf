"""Where Aegis keeps things and what the environment says: read once, passed on as a value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from aegis_sdk.errors import InvalidValue, Unavailable


@attrs.frozen(kw_only=True)
class Config:
    """The settings of one engine."""

    home: Path
    driver: str = "auto"
    kernel: Path | None = None
    libkrun: Path | None = None
    #: Whether what a monitor says on its standard error, and libkrun's log, are repeated on ours.
    debug: bool = False
    plain_http: frozenset[str] = frozenset()
    #: What it was read from, for what belongs to other programs: proxies, certificates, registries' credentials.
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """AEGIS_HOME, _DRIVER, _KERNEL, _LIBKRUN, _DEBUG and _PLAIN_HTTP, with their defaults."""
        return cls(
            home=Path(environ.get("AEGIS_HOME") or _user() / ".aegis").absolute(),
            driver=environ.get("AEGIS_DRIVER") or "auto",
            kernel=_path(environ.get("AEGIS_KERNEL")),
            libkrun=_path(environ.get("AEGIS_LIBKRUN")),
            debug=environ.get("AEGIS_DEBUG", "") not in ("", "0"),
            plain_http=frozenset(map(_plain, environ.get("AEGIS_PLAIN_HTTP", "").replace(",", " ").split())),
            environ=environ,
        )

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def images(self) -> Path:
        return self.data / "images"


def _plain(registry: str) -> str:
    """*registry* as ``HOST`` or ``HOST:PORT``."""
    scheme, found, rest = registry.rpartition("://")
    host = rest.rstrip("/")
    if (found and scheme.lower() != "http") or not host or "/" in host or "@" in host:
        # Not shown: what stands before an @ would be a password.
        shown = registry if "@" not in registry else "one of its words"
        raise InvalidValue(
            f"AEGIS_PLAIN_HTTP lists registries that are spoken to without TLS, and {shown} cannot be one",
            hint="write HOST or HOST:PORT; what speaks https does not belong there",
        )
    return host


def _path(word: str | None) -> Path | None:
    return Path(word).absolute() if word else None


def _user() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise Unavailable(f"this user has no home directory: {error}", hint="set AEGIS_HOME to a directory") from error
