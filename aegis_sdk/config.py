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
    #: Where a daemon listens whose engine is to be used: the path of its socket.
    host: Path | None = None
    #: Where the router listens on 127.0.0.1, 0 for any free port; and hosts, NAME[:PORT], that it answers to.
    router_port: int = 8099
    router_names: frozenset[str] = frozenset()
    #: How many guests of tasks run at once; others are queued.
    task_guests: int = 4
    #: What it was read from, for what belongs to other programs: proxies, certificates, registries' credentials.
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """What AEGIS_HOME and the other variables of that prefix say, which are those below, with their defaults."""
        return cls(
            home=Path(environ.get("AEGIS_HOME") or _user() / ".aegis").absolute(),
            driver=environ.get("AEGIS_DRIVER") or "auto",
            kernel=_path(environ.get("AEGIS_KERNEL")),
            libkrun=_path(environ.get("AEGIS_LIBKRUN")),
            debug=environ.get("AEGIS_DEBUG", "") not in ("", "0"),
            plain_http=frozenset(map(_plain, environ.get("AEGIS_PLAIN_HTTP", "").replace(",", " ").split())),
            host=_path(environ.get("AEGIS_HOST", "").removeprefix("unix://")),
            router_port=_count("AEGIS_ROUTER_PORT", environ.get("AEGIS_ROUTER_PORT") or "8099", 0, 65_535),
            router_names=frozenset(environ.get("AEGIS_ROUTER_NAMES", "").replace(",", " ").lower().split()),
            task_guests=_count(
                "AEGIS_TASK_GUESTS", environ.get("AEGIS_TASK_GUESTS") or str(max(2, os.cpu_count() or 1)), 1, 1000
            ),
            environ=environ,
        )

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def images(self) -> Path:
        return self.data / "images"

    @property
    def database(self) -> Path:
        return self.data / "aegis.db"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def owners(self) -> Path:
        """Where each engine that runs tasks has a file that is locked for as long as it lives."""
        return self.data / "owners"

    @property
    def workspaces(self) -> Path:
        return self.data / "workspaces"

    @property
    def key(self) -> Path:
        """The file of the key that secrets are encrypted with."""
        return self.home / "master.key"

    @property
    def socket(self) -> Path:
        """Where the daemon of this home answers HTTP."""
        return self.home / "aegisd.sock"

    @property
    def lock(self) -> Path:
        """The file that the daemon of this home holds a lock on."""
        return self.home / "aegisd.lock"


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


def _count(name: str, word: str, at_least: int, at_most: int) -> int:
    if not word.isascii() or not word.isdigit() or not at_least <= int(word) <= at_most:
        raise InvalidValue(f"{name} must be a whole number from {at_least} to {at_most}, not {word!r}")
    return int(word)


def _path(word: str | None) -> Path | None:
    return Path(word).absolute() if word else None


def _user() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise Unavailable(f"this user has no home directory: {error}", hint="set AEGIS_HOME to a directory") from error
