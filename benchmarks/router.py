"""The router and nginx, each in front of the same server on this machine: small answers on connections that stay.

As a program, the router alone: ``python -m benchmarks.router SOCKET...`` serves who listens there, as ports from 8000
of an app named web, and prints its port.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from aegis_sdk.routing.base import ServedApp, ServedInstance
from aegis_sdk.routing.router import Router
from aegis_sdk.routing.rule import BuiltInRule
from benchmarks.floor import compiled

# Else a worker of root's would be nobody's, who cannot enter our directory.
_USER = f"user {pwd.getpwuid(os.getuid()).pw_name}; " if os.getuid() == 0 else ""
_COMMON = (
    _USER + "daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit; events { worker_connections 999; }"
)
_PATHS = "".join(f"{kind}_temp_path tmp/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
_HTTP = f"access_log off; keepalive_requests 1000000000; keepalive_timeout 600; {_PATHS}"
_SERVER = (
    _COMMON
    + """
http { %s server { listen unix:%s; location / { default_type text/plain; return 200 "hello from a server\\n"; } } }
"""
)
_PROXY = (
    _COMMON
    + """
http { %s
  upstream served { server unix:%s; keepalive 512; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:%d backlog=1024; location /app/web/ {
    proxy_pass http://served/; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
  } }
}
"""
)
ROUNDS, _SECONDS = 3, 2.0
_TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Load:
    """What a number of connections got: requests a second, the same for each second of the proxy's own CPU time, ms."""

    per_second: float
    per_cpu_second: float
    p50: float
    p99: float


def loads(connections: int) -> tuple[Load, Load]:
    """The router's load and nginx's, the medians of rounds in which they take turns."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(prefix="aegis-router-") as place, ExitStack() as stack:
        served = f"{place}/served"
        stack.enter_context(_nginx(Path(place, "server"), _SERVER % (_HTTP, served)))
        router, port = stack.enter_context(_router(served))
        nginx, other = stack.enter_context(_proxy(Path(place, "proxy"), served))
        for _ in range(ROUNDS):
            ours.append(load(router, f"127.0.0.1:{port}", connections))
            theirs.append(load(nginx, f"127.0.0.1:{other}", connections))
    return median(ours), median(theirs)


def median(all_: list[Load]) -> Load:
    """The median of each column."""
    return Load(*(statistics.median(column) for column in zip(*map(attrs.astuple, all_), strict=True)))


def load(pid: int, where: str, connections: int, *, given: tuple[int, ...] = ()) -> Load:
    """Ask *where*, an address or the numbers of the descriptors *given*, which *pid* carries to who answers."""
    program = compiled("load")
    before = _cpu(pid)
    command = [str(program), where, "/app/web/", str(connections), str(_SECONDS)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, pass_fds=given).stdout)
    cpu = _cpu(pid) - before
    return Load(said["requests"] / said["seconds"], said["requests"] / cpu, said["p50"], said["p99"])


def _cpu(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


@contextmanager
def _nginx(place: Path, configuration: str) -> Iterator[int]:
    """An nginx of that configuration; gives the number of its worker."""
    if not (program := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")):
        raise SystemExit("this needs nginx: apt-get install nginx-light")
    (place / "tmp").mkdir(parents=True)
    (place / "nginx.conf").write_text(configuration)
    with subprocess.Popen([program, "-p", place, "-c", "nginx.conf"]) as nginx:
        try:
            children = Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children")
            while not (found := children.read_text().split()):
                time.sleep(0.02)
            yield int(found[0])
        finally:
            nginx.terminate()


@contextmanager
def _proxy(place: Path, served: str) -> Iterator[tuple[int, int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _nginx(place, _PROXY % (_HTTP, served, port)) as worker:
        _until_it_listens(port)
        yield worker, port


@contextmanager
def _router(served: str) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "benchmarks.router", served]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as router:
        assert router.stdout
        yield router.pid, int(router.stdout.readline())
        router.kill()


def _until_it_listens(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)


@attrs.frozen
class _Served:
    """One app, always awake, whose ports are sockets that have a place in the file system."""

    _paths: Mapping[int, str]
    _apps: Mapping[str, ServedApp]

    def snapshot(self) -> Mapping[str, ServedApp]:
        return self._apps

    def hold(self, _instance: str) -> bool:
        return True

    def let_go(self, _instance: str) -> None:
        pass

    def wake(self, _instance: str) -> None:
        pass

    def dial(self, _instance: str, port: int, *, timeout: float) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(timeout)
        connected.connect(self._paths[port])
        return connected


def main() -> None:
    """Serve until standard input ends."""
    paths = dict(enumerate(sys.argv[1:], 8000))
    instance = ServedInstance(id="web-1", release="v1", ports=tuple(paths), awake=True)
    apps = {"web": ServedApp(id="1", name="web", instances=(instance,))}
    with Router(_Served(paths, apps), policies=[BuiltInRule()], port=0) as router:
        print(router.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
