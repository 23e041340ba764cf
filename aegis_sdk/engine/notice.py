"""What is said once per home, not once per guest: that guests run in software here."""

from __future__ import annotations

import sys

from aegis_sdk.artifacts import private
from aegis_sdk.config import Config
from aegis_sdk.drivers.base import Driver

_NOTICE = (
    "aegis: no hardware virtualization here, so guests run in software: a boot takes a second or two"
    " (`aegis doctor` says why; this is said once)\n"
)


def said(config: Config, driver: Driver) -> None:
    """Say it if *driver* does so, and nobody has been told yet."""
    if driver.accelerator != "tcg":
        return
    try:
        private(config.data)
        (config.data / "software-emulation-noticed").touch(exist_ok=False)
    except OSError:
        return
    if sys.stderr:  # a program may have closed it
        sys.stderr.write(_NOTICE)
