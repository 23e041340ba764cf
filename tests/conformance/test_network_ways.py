"""However a guest is made, what stands before it is the same."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_here
from aegis_sdk.engine.local import LocalEngine
from tests.outside_world import METADATA, OWN, OWN_6, PRIVATE, PUBLIC, Namespace, Outside, web

pytestmark = [pytest.mark.of_qemu, pytest.mark.timeout(60)]

TRIED = (PUBLIC, PRIVATE, METADATA, OWN, OWN_6, f"::ffff:{PRIVATE}", "::ffff:127.0.0.1", "10.0.0.1")
SCRIPT = (
    f"for to in {' '.join(TRIED)}; do nc -w 5 $to 80 </dev/null >/dev/null 2>&1 && echo reached $to; done; echo over"
)
REACHED = f"reached {PUBLIC}\nover\n"
SERVER = f"mkdir -p /tmp/www; ({SCRIPT}) >/tmp/www/index.html; exec busybox httpd -f -p 8000 -h /tmp/www"


@pytest.fixture(autouse=True)
def servers(namespace: Namespace) -> Iterator[None]:
    """Who answers at each place that there is, also at this machine's own addresses."""
    with closing(Outside(namespace)) as outside, closing(Outside()) as here:
        for address in (PUBLIC, PRIVATE, METADATA):
            outside.serve(address, 80, web("reached"))
        for address in (OWN, OWN_6, "127.0.0.1"):
            here.serve(address, 80, web("reached"))
        yield


def by_task(driver: str) -> str:
    task = aegis.Task.submit("sh", "-c", SCRIPT, driver=driver)
    task.wait(50)
    return "".join(entry.data.decode() for entry in task.logs() if entry.source == "stdout")


def by_app(driver: str) -> str:
    with _engine() as engine:
        app = aegis.App.create("walled", command=["sh", "-c", SERVER], expose=[8000], driver=driver, engine=engine)
        try:
            app.publish()
            with app.serve() as instance, urllib.request.urlopen(instance.url, timeout=40) as answer:
                return str(answer.read().decode())
        finally:
            app.delete(workspace=True)


@contextmanager
def _engine() -> Iterator[Engine]:
    """The one that the test is for; in this process, one that ends with the block."""
    engine = engine_here()
    if not isinstance(engine, LocalEngine):
        yield engine
        return
    with closing(LocalEngine(Config.from_environment())) as local:
        yield local


@pytest.mark.parametrize("way", [by_task, by_app])
@pytest.mark.both_engines
def test_what_is_refused(way: Callable[[str], str], driver, engine):
    """What is public is reached; a private network, a cloud's secrets, this machine by its addresses are not."""
    assert way(driver) == REACHED


@pytest.mark.in_process
def test_what_is_refused_on_the_command_line(cli):
    """And so of ``aegis run``; with ``--network none`` nothing is."""
    assert cli("run", "--", "sh", "-c", SCRIPT).stdout.decode() == REACHED
    assert cli("run", "--network", "none", "--", "sh", "-c", SCRIPT).stdout == b"over\n"
