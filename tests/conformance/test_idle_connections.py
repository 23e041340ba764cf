"""Connections on which nothing happens for long."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.routing import connection, exchange, listener, stream, upstreams
from tests.conftest import ROOT
from tests.websockets import echoes, socket_to

pytestmark = [pytest.mark.in_process, pytest.mark.of_qemu, pytest.mark.timeout(60)]

_SERVER = (ROOT / "tests" / "in_guest" / "web.py").read_text()


def test_an_hour(registry, empty_home, monkeypatch):
    """A WebSocket is there after an hour without a word, and its app awake all the while."""
    later = 0.0
    for module in (connection, exchange, listener, stream, upstreams):
        monkeypatch.setattr(module, "monotonic", lambda: time.monotonic() + later)
    with closing(LocalEngine(Config.from_environment())) as engine:
        app = aegis.App.create(
            "web",
            image=registry.name("python:1"),
            command=["python3", "-c", _SERVER],
            expose=[8000],
            idle=0.2,
            engine=engine,
        )
        app.publish()
        with app.serve() as instance, socket_to(instance.url) as line:
            assert echoes(line, b"hello")
            for _ in range(12):
                later += 300.0
                time.sleep(0.15)  # for the router to look at its clients, and the instance at how idle it is
            assert instance.state is aegis.InstanceState.RUNNING
            assert echoes(line, b"hello again")
