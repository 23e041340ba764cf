"""The ports of a guest: connections from outside, when its servers are ready, and what goes on in it."""

from __future__ import annotations

import hashlib
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import attrs
import pytest

import aegis_sdk as aegis
from aegis_sdk.guest import ports, requests
from aegis_sdk.guest.activity import Activity, activity
from aegis_sdk.guest.channel import Channel
from aegis_sdk.model import Command
from tests.conftest import slowness, until

# The first test pays for the images, the guest and a Python without compiled modules in it.
pytestmark = pytest.mark.timeout(60)

PROGRAM = Path(__file__).parent.parent / "in_guest" / "serve.py"
ECHO, FIRST, POUR, DRINK, DEAF, SIX, ALL, FIVE = range(7001, 7009)
PIECE = bytes(range(256)) * 256


@attrs.frozen
class Guest:
    """A guest whose servers listen, and that process of it."""

    vm: aegis.Sandbox
    server: aegis.Process

    def channel(self) -> Channel:
        return Channel(self.vm._engine.dial(self.vm.id))

    def dial(self, port: int, timeout: float = 10.0) -> socket.socket:
        """A connection to a port."""
        machine = self.vm._engine.dial(self.vm.id)
        try:
            ports.connect(machine, port, timeout=timeout * slowness())
        except BaseException:
            machine.close()
            raise
        machine.settimeout(15 * slowness())
        return machine

    def activity(self) -> Activity:
        with closing(self.channel()) as channel:
            return activity(channel, deadline=time.monotonic() + 10 * slowness())


@pytest.fixture(scope="module")
def guest(images, driver) -> Iterator[Guest]:
    """One for all tests: each leaves it as it was."""
    with aegis.Sandbox(image=images.reference("python"), driver=driver) as vm:
        server = vm.start("python3", "-c", PROGRAM.read_text(), user="app")
        assert server.stdout.readline() == "ready\n"
        yield Guest(vm, server)


def _all(connection: socket.socket) -> bytes:
    """What comes until the end."""
    pieces = []
    while piece := connection.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.every_driver
@pytest.mark.parametrize("port", [ECHO, SIX, ALL])
def test_it_is_reached_wherever_it_listens(guest, port):
    """On 127.0.0.1, on [::1] alone and on all addresses; the end of one way is told, and the other goes on."""
    with guest.dial(port) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        assert _all(connection) == b"bye"


def test_the_server_may_say_its_last_word_first(guest):
    """What a server says at once comes, and after the end of its way it still hears."""
    with guest.dial(FIRST) as connection:
        assert _all(connection) == b"first"
        connection.sendall(b"and then")
    assert guest.server.stdout.readline() == "heard and then\n"


def test_what_was_sent_before_the_end_arrives(guest):
    """A client that sends and goes away at once has been heard."""
    with guest.dial(FIRST) as connection:
        assert _all(connection) == b"first"
        connection.sendall(b"x" * 100_000)
    assert guest.server.stdout.readline() == f"heard {'x' * 100_000}\n"


@pytest.mark.parametrize("port", [1, FIVE])
def test_refused(guest, port):
    """Where nobody listens that can be reached, that is said at once."""
    with pytest.raises(ConnectionRefusedError, match=f"nothing listens on port {port} in the guest"):
        guest.dial(port)


@pytest.mark.every_driver
def test_large_both_ways(guest):
    """What is larger than all buffers passes whole, and this process does not grow with it."""
    size = 48 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest, whole = hashlib.sha256(), hashlib.sha256(PIECE * (size // len(PIECE))).hexdigest()
    with guest.dial(POUR) as connection:
        connection.sendall(f"{size}\n".encode())
        while piece := connection.recv(1 << 18):
            digest.update(piece)
    assert digest.hexdigest() == whole
    with guest.dial(DRINK) as connection:
        for _ in range(size // len(PIECE)):
            connection.sendall(PIECE)
        connection.shutdown(socket.SHUT_WR)
        assert _all(connection).decode() == whole
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 << 10


@contextmanager
def _many(guest: Guest, count: int, port: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(guest.dial(port)) for _ in range(count)]


def test_many_at_once(guest):
    """256 connections, each with its own words."""
    with _many(guest, 256, ECHO) as connections:
        assert guest.activity().connections == 256
        for number, connection in enumerate(connections):
            connection.sendall(b"%d" % number)
            connection.shutdown(socket.SHUT_WR)
        assert [_all(connection) for connection in connections] == [b"%d" % number for number in range(256)]
    assert until(lambda: guest.activity().connections == 0, 10)


def _fill(connections: list[socket.socket]) -> int:
    """Send to all until nothing goes any more; how many bytes that was."""
    sent = 0
    while ready := select.select([], connections, [], 1.0 * slowness())[1]:
        sent += sum(connection.send(PIECE, socket.MSG_DONTWAIT) for connection in ready)
    return sent


def test_who_does_not_read_costs_little(guest):
    """Servers and clients that do not read fill bounded buffers, and hinder nobody else."""
    free, resident = _free(guest), _resident()
    with _many(guest, 20, DEAF) as deaf, _many(guest, 20, POUR) as unread:
        for connection in unread:
            connection.sendall(b"1000000000\n")
        assert _fill(deaf) < 20 * (8 << 20)
        with guest.dial(ECHO) as connection:
            connection.sendall(b"on")
            assert connection.recv(10) == b"on"
        assert free - _free(guest) < 150 << 20
        assert _resident() - resident < 80 << 20
        assert guest.vm.run("busybox", "echo", "on").stdout == "on\n"
    assert until(lambda: guest.activity().connections == 0, 10)


def _free(guest: Guest) -> int:
    words = guest.vm.run("cat", "/proc/meminfo").stdout.split()
    return int(words[words.index("MemAvailable:") + 1]) << 10


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.every_driver
def test_a_guest_that_has_ended(boot):
    """A connection to it is refused as an error of the connection, and one that was open ends."""
    vm = boot()
    vm.start("httpd", "-f", "-p", "127.0.0.1:80")
    machine = vm._engine.dial(vm.id)
    assert until(lambda: vm.run("nc", "127.0.0.1", "80", input="").ok, 10)
    with ports.connect(machine, 80, timeout=5 * slowness()) as open_one, vm._engine.dial(vm.id) as late:
        vm.close()
        open_one.settimeout(5)
        assert open_one.recv(10) == b""
        with pytest.raises(OSError, match=r"guest has ended|Broken pipe|reset"):
            ports.connect(late, 80, timeout=5)


@contextmanager
def _served(guest: Guest, *argv: str, env: dict[str, str] | None = None) -> Iterator[Callable[..., float]]:
    """Run a command as an app's server; gives what waits for it to be ready on a port."""
    identity = f"server-{time.monotonic_ns()}"
    with closing(guest.channel()) as server:
        command = Command(argv=argv, env=env or {}, cwd=None, user="app", stdin=False)
        requests.start(server, identity, command, deadline=time.monotonic() + 5)
        server.wait(select.POLLIN, deadline=time.monotonic() + 10 * slowness())

        def ready(port: int, timeout: float = 0.5) -> float:
            with closing(guest.channel()) as channel:
                return ports.ready(channel, identity, port, interval=0.05, timeout=timeout)

        yield ready
        server.hang_up()


def test_ready(guest):
    """A server is ready when it listens, however late."""
    with _served(guest, "sh", "-c", "busybox sleep 1; exec busybox httpd -f -p 127.0.0.1:8000") as ready:
        assert 0.5 < ready(8000, timeout=15 * slowness()) < 15 * slowness()


def test_not_ready_because_it_exited(guest):
    """That it has exited is noticed at once, and also if it had before."""
    with _served(guest, "sh", "-c", "busybox sleep 0.5; exit 3") as ready:
        for _ in range(2):
            begin = time.monotonic()
            with pytest.raises(aegis.ServerFailed, match=r"^the server exited with code 3 before it was ready$"):
                ready(8001, timeout=30)  # another than that of servers before, which may still be ending
            assert time.monotonic() - begin < 10 * slowness()
    with (
        _served(guest, "sh", "-c", "kill -SEGV $$") as ready,
        pytest.raises(aegis.ServerFailed, match="was killed by SIGSEGV"),
    ):
        ready(8000)


def test_not_ready_because_it_listens_elsewhere(guest):
    """The port is named on which it, or what it has started, listens instead; others' ports are not."""
    with _served(guest, "sh", "-c", "busybox httpd -f -p 9000 & busybox httpd -f -p 127.0.0.1:9001") as ready:
        ready(9001, timeout=15 * slowness())
        ready(9000, timeout=15 * slowness())
        with pytest.raises(aegis.ServerFailed) as failed:
            ready(8000)
    assert "has not opened port 8000 within 0.5 s: it listens on port 9000 and 9001 instead" in str(failed.value)
    assert failed.value.hint == "expose port 9000, or have the server listen on 8000"


def test_not_ready_because_it_cannot_be_reached(guest):
    """The address is named that it is bound to."""
    with _served(guest, "busybox", "httpd", "-f", "-p", "127.0.0.5:8000") as ready:
        assert until(lambda: "listens on 127.0.0.5:8000, where it cannot be reached" in _failure(ready), 15)


def _failure(ready: Callable[..., float]) -> str:
    with pytest.raises(aegis.ServerFailed) as failed:
        ready(8000, timeout=0.2)
    return str(failed.value)


def test_never_ready(guest):
    """Of a server that listens nowhere that is said, and who does listen in the guest."""
    with (
        _served(guest, "busybox", "sleep", "100") as ready,
        pytest.raises(
            aegis.ServerFailed, match=r"not opened port 8000 within 0\.5 s, nor any other \(.*127\.0\.0\.1:7001"
        ),
    ):
        ready(8000)


def test_activity(guest):
    """CPU time, commands and connections are told, and an idle guest uses next to none of the first."""
    assert until(lambda: guest.activity().commands == 1, 10)  # else one of the test before ends still
    before = guest.activity()
    assert before.cpu > 0.01
    assert before.keepalive == 0
    time.sleep(1)
    assert guest.activity().cpu - before.cpu < 0.1
    with guest.dial(ECHO):
        assert guest.activity().connections == 1
    assert guest.vm.run("sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done").ok
    assert guest.activity().cpu - before.cpu > 0.05


def test_keepalive(guest):
    """Any user may ask for the guest to be kept awake, and take that back; nobody may put another file there."""
    assert guest.vm.run("sh", "-c", "echo 300 > /run/aegis/keepalive", user="app").ok
    assert 280 < guest.activity().keepalive <= 300
    assert guest.vm.run("sh", "-c", "echo 99999999 > /run/aegis/keepalive", user="app").ok
    assert 86_000 < guest.activity().keepalive <= 86_400
    assert guest.vm.run("sh", "-c", "echo for ever > /run/aegis/keepalive", user="app").ok
    assert guest.activity().keepalive == 0
    assert not guest.vm.run("busybox", "rm", "/run/aegis/keepalive", user="app").ok
    assert not guest.vm.run("busybox", "touch", "/run/aegis/more", user="app").ok


@pytest.mark.of_qemu
@pytest.mark.parametrize("user", ["root", "app"])
def test_no_process_speaks_for_the_harness(guest, user):
    """The way to the host is the harness's alone, root included: nobody else says whether a server is ready."""
    found = (
        "name=$(busybox grep -l aegis.0 /sys/class/virtio-ports/*/name); name=${name%/name}; port=/dev/${name##*/}; "
    )
    said = guest.vm.run("sh", "-c", found + "cat < $port; echo yes > $port; ls $port", user=user)
    assert said.stdout.startswith("/dev/vport")
    assert said.stderr.count("busy" if user == "root" else "ermission denied") == 2
