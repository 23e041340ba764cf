"""Where Aegis keeps things and what the environment says: read once, passed on as a value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from aegis_sdk.errors import Unavailable


@attrs.frozen(kw_only=True)
class Config:
    """The settings of one engine."""

    home: Path
    driver: str = "auto"
    kernel: Path | None = None
    plain_http: frozenset[str] = frozenset()
    #: What it was read from, for what belongs to other programs: proxies, certificates, registries' credentials.
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """AEGIS_HOME, AEGIS_DRIVER, AEGIS_KERNEL and AEGIS_PLAIN_HTTP, with their defaults."""
        kernel = environ.get("AEGIS_KERNEL")
        return cls(
            home=Path(environ.get("AEGIS_HOME") or _user() / ".aegis").absolute(),
            driver=environ.get("AEGIS_DRIVER") or "auto",
            kernel=Path(kernel).absolute() if kernel else None,
            plain_http=frozenset(environ.get("AEGIS_PLAIN_HTTP", "").replace(",", " ").split()),
            environ=environ,
        )

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def images(self) -> Path:
        return self.data / "images"


def _user() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise Unavailable(f"this user has no home directory: {error}", hint="set AEGIS_HOME to a directory") from error
