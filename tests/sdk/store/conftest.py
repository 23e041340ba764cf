"""An engine with a home of its own, where nothing is yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis_sdk.engine.local import LocalEngine
from tests.sdk.store.homes import engine_at


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """The path of a home that is not there yet."""
    return tmp_path / "home"


@pytest.fixture
def local(empty: Path) -> LocalEngine:
    """Its engine."""
    return engine_at(empty)
