"""Commands in a home of their own, once with a daemon and once without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served import Served


@pytest.fixture(scope="module", params=["daemon", "in process"])
def records(request: pytest.FixtureRequest, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A home with apps and secrets of a module's own, which a daemon serves or none does; images are all tests'."""
    its = Served(tmp_path_factory.mktemp("records") / "home")
    (its.home / "data").mkdir(mode=0o700, parents=True)
    its.home.chmod(0o700)
    images = home / "data" / "images"
    images.mkdir(mode=0o700, exist_ok=True)
    (its.home / "data" / "images").symlink_to(images)
    if request.param == "daemon":
        its.start()
    yield its
    its.stop()
