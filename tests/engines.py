"""Which engine the tests' sandboxes are made by: the one in this process, or that of a daemon, for the same promises.

Tests that are marked ``both_engines`` are tried with each; with ``--engine remote`` all of tests/conformance is, except
what is marked ``in_process``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.served import Served

_CONFORMANCE = ROOT / "tests" / "conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=("local", "remote"), help="try conformance with this one, and no other")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kinds = _kinds(metafunc)
    if kinds != ["local"]:
        metafunc.parametrize("engine", kinds, indirect=True)


def _kinds(metafunc: pytest.Metafunc) -> list[str]:
    wanted, marked = metafunc.config.getoption("--engine"), metafunc.definition.get_closest_marker
    if not metafunc.definition.path.is_relative_to(_CONFORMANCE) or marked("in_process"):
        return ["local"]
    if wanted or metafunc.config.getoption("--driver") != "qemu":
        return [wanted or "local"]
    return ["local", "remote"] if marked("both_engines") else ["local"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--engine") == "remote":
        items[:] = [item for item in items if not item.get_closest_marker("in_process")]


@pytest.fixture(scope="session")
def daemon_of_all(home: Path) -> Iterator[Served]:
    """A daemon for all tests that leave it as it was, in a home beside that of the run, whose images it uses."""
    served = Served.made(home.with_name("daemon-of-all"), home / "data" / "images")
    served.start()
    yield served
    served.stop()


@contextmanager
def elsewhere(engine: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a test's engine be one of another home, while the block lasts."""
    if engine == "local":
        yield
        return
    served = Served(home)
    monkeypatch.delenv("AEGIS_HOST")
    served.start()
    monkeypatch.setenv("AEGIS_HOST", str(served.socket))
    try:
        yield
    finally:
        monkeypatch.delenv("AEGIS_HOST")
        served.stop()


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The engine that a test, and every program that it starts, has where none is named: ``local`` or ``remote``."""
    kind = str(getattr(request, "param", "local"))
    with pytest.MonkeyPatch.context() as patch:  # of its own: what the test patches is undone before all else is
        if kind == "remote":
            patch.setenv("AEGIS_HOST", str(request.getfixturevalue("daemon_of_all").socket))
        yield kind
