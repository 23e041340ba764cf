"""A cache of a test's own, with a shelf as its only source."""

from __future__ import annotations

import pytest

from aegis_sdk.config import Config
from aegis_sdk.images.cache import ImageCache
from aegis_sdk.images.sources import Sources
from tests.sdk.cache.shelf import Shelf


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def cache(tmp_path, shelf) -> ImageCache:
    return ImageCache(tmp_path / "images", Sources(Config(home=tmp_path), lambda: (shelf,)), architecture="amd64")
