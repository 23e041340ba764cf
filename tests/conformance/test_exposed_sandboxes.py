"""Ports of sandboxes that are reached from this machine: from when it is asked for until they are taken back."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

import aegis_sdk as aegis
from tests.conftest import daemons, monitors, until
from tests.sdk.routing.apps import connected, exactly, rest

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(60)]

#: Servers that bind the guest's own loopback.
SERVERS = """
    mkdir -p /tmp/www; echo hello > /tmp/www/index.html; httpd -p 127.0.0.1:8000 -h /tmp/www
    httpd -p 127.0.0.1:9000 -h /etc; exec nc -ll -p 5432 -e cat
"""


@pytest.fixture
def serving(sandbox: aegis.Sandbox) -> Iterator[aegis.Sandbox]:
    """A guest in which servers listen."""
    with sandbox.start("sh", "-c", SERVERS):
        assert until(lambda: _listens(sandbox), 10)
        yield sandbox
        for port, protocol in ((8000, "http"), (9000, "http"), (7, "http"), (5432, "tcp")):
            sandbox.conceal(port, protocol=protocol)
        sandbox.shell("killall httpd nc")


def _listens(vm: aegis.Sandbox) -> bool:
    return vm.shell("netstat -ltn | grep -q :5432").ok


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _refuses(port: int) -> bool:
    try:
        with connected(port):
            return False
    except ConnectionRefusedError:
        return True


def _listening() -> set[tuple[str, int]]:
    """Where this process and the daemons and monitors of this run listen, by TCP or UDP."""
    ours = {os.getpid(), *monitors(), *daemons()}
    lines = subprocess.run(["ss", "-lntupH"], capture_output=True, text=True, check=True).stdout.splitlines()
    owned = [line.split()[4] for line in lines if ours & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}]
    return {(host, int(port)) for host, _, port in (address.rpartition(":") for address in owned)}


def test_http(serving, by_face):
    """A port has a URL of its own until it is concealed, the same however often it is asked for."""
    url = by_face.expose(8000)
    assert url.endswith(f"/app/sandbox-{serving.id}:8000/")
    other = by_face.expose(9000)
    assert by_face.expose(8000) == url
    assert (httpx.get(url).text, "root" in httpx.get(f"{other}passwd").text) == ("hello\n", True)
    assert serving.info().addresses == {"8000": url, "9000": other}
    by_face.conceal(8000)
    by_face.conceal(8000)
    assert (httpx.get(url).status_code, "root" in httpx.get(f"{other}passwd").text) == (404, True)
    by_face.conceal(9000)
    assert serving.info().addresses == {}
    with suppress(httpx.ConnectError):  # where the router goes on
        assert httpx.get(other).status_code == 404


def test_nothing_listens(serving):
    """Who asks for a port that nothing listens on is told so, at once."""
    answer = httpx.get(serving.expose(7))
    assert (answer.status_code, "nothing listens on port 7 in the guest" in answer.text) == (502, True)


def test_tcp(serving):
    """A local port, the one that is asked for or any; another one takes its place; raw bytes both ways, half-closed."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        wanted = other.getsockname()[1]
        with pytest.raises(aegis.PortTaken, match=str(wanted)):
            serving.expose(5432, protocol="tcp", local=wanted)
        assert serving.info().addresses == {}
        first = serving.expose(5432, protocol="tcp")
        with pytest.raises(aegis.PortTaken):
            serving.expose(5432, protocol="tcp", local=wanted)
        assert serving.info().addresses == {"5432/tcp": first}
    with connected(_port(first)) as client:
        assert serving.expose(5432, protocol="tcp", local=wanted) == f"127.0.0.1:{wanted}"
        assert serving.expose(5432, protocol="tcp") == f"127.0.0.1:{wanted}"
        client.sendall(b"\0raw\xff\n")
        assert exactly(client, 6) == b"\0raw\xff\n"  # what is open stays
    assert _refuses(_port(first))
    with connected(wanted) as client:
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert rest(client) == b"all of it"
    serving.conceal(5432, protocol="tcp")
    assert _refuses(wanted)


def test_what_cannot_be_exposed(serving):
    """What is no port, or one too many, is refused, and the others stay."""
    for port, options in ((0, {}), (1 << 16, {}), (80, {"protocol": "udp"}), (80, {"local": 8080}), ("80", {})):
        with pytest.raises(aegis.InvalidValue):
            serving.expose(port, **options)
    for port in range(100, 116):
        serving.expose(port)
    with pytest.raises(aegis.InvalidValue, match="16 ports"):
        serving.expose(8000)
    assert len(serving.info().addresses) == 16
    for port in range(100, 116):
        serving.conceal(port)


def _reached(vm: aegis.Sandbox) -> int:
    """A local port where the guest gives everything back."""
    address = vm.expose(5432, protocol="tcp")
    vm.start("nc", "-l", "-p", "5432", "-e", "cat")
    assert until(lambda: _listens(vm), 10)
    return _port(address)


def test_who_is_closed(boot):
    """While a guest is exposed we listen for the router and its ports, and when it was closed for nothing of it."""
    before = _listening()
    vm = boot(memory=128)
    assert _listening() == before
    port, url = _reached(vm), vm.expose(8000)
    assert _listening() - before <= {("127.0.0.1", port), ("127.0.0.1", httpx.URL(url).port)}
    with connected(port) as client:
        client.sendall(b"here")
        assert exactly(client, 4) == b"here"
        vm.close()
        assert rest(client) == b""
    assert _refuses(port)
    assert _listening() <= before | {("127.0.0.1", httpx.URL(url).port)}  # where the router goes on
    with pytest.raises(aegis.SandboxClosed):
        vm.expose(8000)
    vm.conceal(8000)


@pytest.mark.in_process
def test_who_dies(boot):
    """A guest whose monitor is killed is reached no more, as soon as it is known."""
    vm = boot(memory=128)
    port = _reached(vm)
    os.kill(vm.info().pid, signal.SIGKILL)
    assert until(lambda: _refuses(port), 5)
    assert vm.info().addresses == {}
    with pytest.raises(aegis.SandboxClosed):
        vm.expose(8000)
