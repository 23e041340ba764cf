"""What the tests of this folder share; ``registry`` is a hostile one here, and not the suite's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aegis_sdk.images.base import FoundImage
from aegis_sdk.images.registry.blobs import Blobs
from aegis_sdk.images.registry.source import RegistrySource
from aegis_sdk.images.registry.transport import Patience
from tests.sdk.registry.hostile_registry import IMAGE, HostileRegistry, fetch, make_authority


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    """A registry that offers one image, honestly at first."""
    with HostileRegistry() as registry:
        registry.publish(IMAGE)
        yield registry


@pytest.fixture
def other() -> Iterator[HostileRegistry]:
    """Another server."""
    with HostileRegistry() as registry:
        yield registry


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority's certificate, and one for localhost and registry.example made by it."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def patience() -> Patience:
    """How long the sources of a test wait."""
    return Patience(connect=1.0, stall=1.0, tries=3, pause=0.01)


@pytest.fixture
def source(registry: HostileRegistry, tmp_path: Path, patience: Patience) -> Callable[..., RegistrySource]:
    """Makes sources for a user whose home is *tmp_path*; *hosts* are spoken to in the clear, too."""

    def source(*hosts: str, environ: dict[str, str] | None = None) -> RegistrySource:
        return RegistrySource(
            tmp_path / "blobs",
            environ={"HOME": str(tmp_path), **(environ or {})},
            plain_http=frozenset({registry.host, *hosts}),
            patience=patience,
        )

    return source


@pytest.fixture
def find(registry: HostileRegistry, source: Callable[..., RegistrySource]) -> Callable[[], FoundImage]:
    """Finds the registry's image."""
    return lambda: source().find(f"{registry.host}/a/b", architecture="amd64")


@pytest.fixture
def pull(find: Callable[[], FoundImage]) -> Callable[[], list[int]]:
    """Finds the image and fetches its layer; what was reported meanwhile."""
    return lambda: fetch(find())


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """An empty store."""
    return Blobs(tmp_path / "blobs")
