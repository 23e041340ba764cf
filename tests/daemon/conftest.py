"""A daemon a module, in a home of its own; kernel, harness and images are those of the whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aegis_sdk.engine.remote import RemoteEngine
from tests.conftest import monitors as processes
from tests.served import Served


@pytest.fixture(scope="module")
def served(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon that runs; a test that kills it starts it again."""
    daemon = Served.made(tmp_path_factory.mktemp("daemon"), home / "data" / "images")
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def engine(served: Served) -> Iterator[RemoteEngine]:
    """Its engine, whose sandboxes end with the test."""
    with closing(served.engine) as engine:
        yield engine


@pytest.fixture
def another(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Makes homes whose daemons do not run yet, and ends them with the test."""
    daemons: list[Served] = []

    def another(path: Path | None = None) -> Served:
        daemons.append(Served.made(path or tmp_path_factory.mktemp("daemon"), home / "data" / "images"))
        return daemons[-1]

    yield another
    for daemon in daemons:
        daemon.kill()


@pytest.fixture
def monitors() -> Callable[[], set[int]]:
    """The processes that run a guest, and have begun since the test did: others are shared by the run."""
    before = processes()
    return lambda: processes() - before
