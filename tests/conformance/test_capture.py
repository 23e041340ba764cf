"""How a guest's connections are caught: its name server, what its root can do about it, and much at once."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

import pytest

from tests.conformance.test_network import Guest, full, guest, public, servers
from tests.conftest import until
from tests.outside_world import PRIVATE, PUBLIC, PUBLIC_6

__all__ = ["full", "guest", "public", "servers"]

pytestmark = [pytest.mark.in_process, pytest.mark.timeout(60)]

PROGRAMS = Path(__file__).parent.parent / "in_guest"
#: A GiB through one connection, if AEGIS_TEST_GIB=1.
_MIB, _SECONDS = (1024, 600) if os.environ.get("AEGIS_TEST_GIB") else (64, 60)
_A, _PTR, _MX, _AAAA, _HTTPS, _CHAOS = 1, 12, 15, 28, 65, 3
_MARK = 0x6165  # of guest_harness/outgoing/sockets.go


def runs(guest: Guest, program: str, *words: object) -> str:
    """What a program of tests/in_guest prints there."""
    guest.vm.files.write(f"/tmp/{program}", (PROGRAMS / program).read_text())
    done = guest.vm.run("python3", f"/tmp/{program}", *map(str, words), timeout=40)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("over", ["udp", "tcp"])
def test_names(public, over):
    """A, AAAA alone, PTR of what was answered, any case, a dot at the end; other types and classes are refused."""
    ip, ip_6 = socket.inet_aton(PUBLIC).hex(), socket.inet_pton(socket.AF_INET6, PUBLIC_6).hex()
    backwards = ".".join(reversed(PUBLIC.split("."))) + ".in-addr.arpa"
    expected = {
        ("a.example", _A): [0, ip],
        ("A.eXample.", _A): [0, ip],
        ("a.example", _AAAA): [0, ""],
        ("six.example", _A): [0, ""],
        ("six.example", _AAAA): [0, ip_6],
        (backwards, _PTR): [0, b"\1a\7example\0".hex()],
        ("9.9.9.9.in-addr.arpa", _PTR): [3, ""],
        ("a.example", _MX): [4, ""],
        ("a.example", _HTTPS): [4, ""],
        ("a.example", _A, _CHAOS): [5, ""],
    }
    answers = json.loads(runs(public, "ask.py", json.dumps([[over, *words] for words in expected])))
    assert dict(zip(expected, answers, strict=True)) == expected


def test_search_domains(public):
    """A guest's own search domains lead to names as elsewhere."""
    done = public.vm.run("python3", "/tmp/dial.py", "fetch", "a", "80", env={"LOCALDOMAIN": "example"}, timeout=40)
    assert done.stdout.strip() == f"page of {PUBLIC}"


def test_other_ways_of_root(public):
    """The harness's own mark, packets made by hand, another network namespace: none leads to what is not allowed."""
    assert runs(public, "escape.py", "marked", PRIVATE, 80, _MARK) in ("nothing", "ECONNRESET", "EPIPE", "ECONNREFUSED")
    assert runs(public, "escape.py", "crafted", PRIVATE, 80) == "nothing"
    assert runs(public, "escape.py", "elsewhere", PUBLIC, 80) == "ENETUNREACH"
    assert public.fetches(PUBLIC) == f"page of {PUBLIC}"


@pytest.mark.timeout(2 * _SECONDS)
def test_much_with_flat_memory(public):
    """Five hundred connections at once, and much through one, leave the memory of both ends as it was."""
    before = _resident(Path("/proc/self/status").read_text(), "VmRSS")
    assert public.does("many", PUBLIC, 7, 500, seconds=_SECONDS) == "500"
    assert public.does("drink", PUBLIC, 19, _MIB, seconds=_SECONDS) == str(_MIB << 20)
    assert _resident(Path("/proc/self/status").read_text(), "VmRSS") - before < 64
    assert _resident(public.vm.run("cat", "/proc/1/status").stdout, "VmHWM") < 64


def test_a_flood_of_refused_connections(public):
    """Two thousand at once are each refused, and the next allowed one is made."""
    assert runs(public, "escape.py", "flood", PRIVATE, 80, 2000) == "2000"
    assert public.fetches(PUBLIC) == f"page of {PUBLIC}"


def test_root_that_takes_the_capture_away(full):
    """Reaches nothing any more, not even what it may; as does the guest of all these tests, from here on."""
    assert full.fetches(PRIVATE) == f"page of {PRIVATE}"
    before = len(os.listdir("/proc/self/fd"))
    assert runs(full, "escape.py", "detach", PRIVATE, 80) == "1 ECONNREFUSED"
    assert full.fetches(PUBLIC) == "ConnectionRefusedError"
    assert until(lambda: len(os.listdir("/proc/self/fd")) <= before, 15), "the host goes on with what nobody takes"


def _resident(status: str, line: str) -> int:
    """MiB of a process, now or at most."""
    found = re.search(rf"{line}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) >> 10
