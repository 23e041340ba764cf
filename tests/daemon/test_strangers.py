"""Who is not this user has no part in the daemon."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served import Served

_TRY = """
import socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.settimeout(10)
    try:
        line.connect(sys.argv[1])
        line.sendall(sys.argv[2].encode().decode("unicode_escape").encode())
        print("said", repr(line.recv(100)))
    except OSError as error:
        print("refused", type(error).__name__)
"""
_ASKED = {
    "aegisd.sock": "GET /v1/status HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n",
    "guests.sock": '{"lease": true}\\n',
}


@pytest.fixture
def opened(served: Served):
    """The daemon's home, with every door open that the file system has."""
    paths = [served.home, *served.home.parents][: len(served.home.parts) - 2]
    doors = [*paths, *(served.home / name for name in _ASKED)]
    before = {path: path.stat().st_mode for path in doors}
    for path in doors:
        path.chmod(0o777)
    yield served
    for path, mode in before.items():
        path.chmod(mode)


def as_nobody(path: Path, message: str) -> str:
    """What a process of another user is told at *path*."""
    nobody = pwd.getpwnam("nobody")
    said = subprocess.run(
        ["/usr/bin/python3", "-c", _TRY, str(path), message],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", sorted(_ASKED))
def test_another_user_cannot_connect(served, name):
    """Another user of this machine does not even reach the sockets."""
    assert as_nobody(served.home / name, _ASKED[name]) == "refused PermissionError"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", sorted(_ASKED))
def test_another_user_is_heard_by_nobody(opened, name):
    """Where the sockets' modes, and those of their directories, let everybody in, the daemon looks who it is."""
    path = opened.home / name
    assert as_nobody(path, _ASKED[name]) in ("said b''", "refused ConnectionResetError", "refused BrokenPipeError")
    with socket.socket(socket.AF_UNIX) as mine:
        mine.connect(str(path))
        mine.sendall(_ASKED[name].encode().decode("unicode_escape").encode())
        assert mine.recv(100)


def test_the_peer_is_the_kernels_word():
    """Who is at the other end is asked of the kernel, and no word of the other end's."""
    from aegis_sdk import sockets

    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert sockets.peer(one) == sockets.Peer(os.geteuid(), os.getpid())
    assert sockets.Peer(os.geteuid(), 1).trusted
    assert not sockets.Peer(os.geteuid() + 1, 1).trusted
    assert sys.platform != "linux" or sockets.Peer(0, 1).trusted
