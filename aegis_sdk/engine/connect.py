"""The engine that is used when none is named."""

from __future__ import annotations

from aegis_sdk.config import Config
from aegis_sdk.engine.base import Engine


def engine_here() -> Engine:
    """The engine in this process, as the environment configures it."""
    from aegis_sdk.engine.local import LocalEngine

    return LocalEngine(Config.from_environment())
