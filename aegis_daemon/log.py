"""The daemon's own log: bounded, rotated, and without anything that was given to it in confidence."""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from aegis_sdk.artifacts import private

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_BYTES, _OLDER = 1 << 20, 3


def to(path: Path) -> None:
    """Have what the daemon logs written to *path*, and shown on standard error while that is there."""
    private(path.parent)
    file = RotatingFileHandler(path, maxBytes=_BYTES, backupCount=_OLDER, encoding="utf-8", errors="backslashreplace")
    handlers: list[logging.Handler] = [file]
    if sys.stderr:
        handlers.append(logging.StreamHandler())
    logging.basicConfig(level=logging.WARNING, format=_FORMAT, handlers=handlers)
    logging.getLogger("aegis_daemon").setLevel(logging.INFO)
    logging.raiseExceptions = False  # a full disk is no reason to write to a terminal
