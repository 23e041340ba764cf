"""The daemon's life: up, down, status, and what is in its way."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import aegis_sdk as aegis
from aegis_sdk import locks
from aegis_sdk.model import SandboxSpec
from tests.conftest import monitors, until


@pytest.mark.timeout(60)
def test_up_down_and_status(another):
    """`aegis up` returns when the daemon answers; twice is fine, also `aegis down`; `status` exits with 3 then."""
    home = another()
    assert (home.cli("status").returncode, home.cli("down").returncode) == (3, 0)
    first, second = home.cli("up"), home.cli("up")
    assert (first.returncode, second.returncode, first.stderr) == (0, 0, "")
    assert first.stdout == second.stdout
    assert str(home.pid) in first.stdout
    shown = home.cli("status", "--json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["pid"] == home.pid
    assert [home.cli("down").returncode for _ in range(2)] == [0, 0]
    stopped = home.cli("status", "--json")
    assert (stopped.returncode, json.loads(stopped.stdout)) == (3, {"running": False})
    assert not list(home.home.glob("*.sock"))


def test_of_several_that_start_at_once_one_wins(another):
    """Daemons that race for one home: exactly one runs, and each of the others says which."""
    home = another()
    command = [sys.executable, "-P", "-m", "aegis_daemon"]
    racing = [
        subprocess.Popen(command, env=home.environment, stderr=subprocess.PIPE, text=True, cwd="/") for _ in range(5)
    ]
    try:
        assert until(lambda: sum(daemon.poll() is not None for daemon in racing) == 4, 15)
        (winner,) = (daemon for daemon in racing if daemon.poll() is None)
        assert until(home.socket.exists, 10)
        assert home.engine.status().pid == winner.pid == home.pid
        for daemon in racing:
            if daemon is not winner:
                assert daemon.returncode == 3
                assert str(winner.pid) in daemon.stderr.read()
    finally:
        for daemon in racing:
            daemon.terminate()
            daemon.communicate(timeout=15)
    assert winner.returncode == 0


def test_ups_that_race_are_all_right(another):
    """Several `aegis up` at once all succeed, with the same daemon."""
    home = another()
    with subprocess.Popen(
        [sys.executable, "-m", "aegis_cli", "up"], env=home.environment, stdout=subprocess.PIPE
    ) as one:
        two = home.cli("up")
        said = one.communicate()[0].decode()
    assert (one.returncode, two.returncode) == (0, 0)
    assert said == two.stdout


def test_it_holds_nothing_of_who_started_it(another, tmp_path):
    """It has its own session, no terminal, no descriptor of its starter's, / as its directory, and 077 as its umask."""
    home = another()
    with (tmp_path / "open").open("w") as mine:
        os.set_inheritable(mine.fileno(), True)
        assert home.cli("up", pass_fds=[mine.fileno()], cwd=tmp_path).returncode == 0
        process = Path(f"/proc/{home.pid}")
        held = {os.readlink(entry) for entry in (process / "fd").iterdir()}
    assert str(tmp_path / "open") not in held
    assert all(os.readlink(process / "fd" / str(number)) == "/dev/null" for number in range(3))
    assert os.readlink(process / "cwd") == "/"
    assert os.getsid(home.pid) != os.getsid(0)
    words = (process / "stat").read_text().rpartition(")")[2].split()
    assert (words[1], words[4]) != (str(os.getpid()), "0"), "it is nobody's child here"
    assert words[4] == "0", "it has no terminal"
    assert "Umask:\t0077" in (process / "status").read_text()


def test_what_it_makes_is_its_users_alone(another):
    """Sockets have mode 0600, as its log has; directories have 0700."""
    home = another()
    home.start()
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in home.home.iterdir()}
    assert modes == {"aegisd.sock": 0o600, "guests.sock": 0o600, "aegisd.lock": 0o600, "data": 0o700}
    log = home.home / "data" / "logs" / "aegisd.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_what_a_killed_one_left_is_replaced(another):
    """Sockets that nobody listens on are no daemon: status says so, doctor too, and `aegis up` replaces them."""
    home = another()
    home.start()
    home.kill()
    assert home.socket.is_socket()
    assert home.cli("status").returncode == 3
    check = home.daemon.check()[0]
    assert (check.ok, check.required, check.fix) == (False, False, "aegis up")
    home.start()
    assert all(check.ok for check in home.daemon.check())


def test_a_link_in_the_place_of_its_socket(another, tmp_path):
    """A symbolic link where the socket belongs is replaced, and what it leads to is left alone."""
    home, target = another(), tmp_path / "target"
    target.write_text("precious")
    home.socket.symlink_to(target)
    home.start()
    assert home.socket.is_socket()
    assert not home.socket.is_symlink()
    assert target.read_text() == "precious"


def test_why_it_does_not_start(another):
    """What keeps it from starting is said on the terminal, and left as it was."""
    home = another()
    home.socket.write_text("something else")
    failed = home.cli("up")
    assert failed.returncode == 1
    assert f"{home.socket}, where the daemon's socket belongs, is something else" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert home.socket.read_text() == "something else"
    assert home.pid is None


def test_a_broken_setting_is_named(another):
    """A setting that cannot be meant is why it does not start."""
    home = another()
    failed = home.cli("up", env={**home.environment, "AEGIS_TASK_GUESTS": "many"})
    assert failed.returncode == 1
    assert "AEGIS_TASK_GUESTS" in failed.stderr


def _router(home) -> tuple[str, dict[str, Any]]:
    """What `aegis status` and `aegis doctor` say of a router."""
    status = json.loads(home.cli("status", "--json").stdout)
    said = json.loads(home.cli("doctor", "--quick", "--json").stdout)
    (check,) = (check for check in said["checks"] if check["name"] == "router port")
    return status.get("router", ""), check


def test_where_the_router_is(another):
    """The router answers from `aegis up` on; status says where, and doctor, which looks at the port where none runs."""
    home = another()
    assert _router(home)[1]["ok"]
    home.start()
    url, check = _router(home)
    assert (check["ok"], check["seen"]) == (True, f"the router answers at {url}")
    assert httpx.get(f"{url}/app/none/").status_code == 404
    home.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.timeout(60)
def test_a_port_that_is_taken(another, monkeypatch):
    """The daemon runs where its router's port is taken; status and doctor say what to do, and serving tries again."""
    home = another()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        monkeypatch.setenv("AEGIS_ROUTER_PORT", port)
        check = _router(home)[1]
        assert (check["ok"], port in check["seen"], check["fix"]) == (False, True, "AEGIS_ROUTER_PORT=0 aegis up")
        assert home.cli("up").returncode == 0
        url, check = _router(home)
        assert (url, check["ok"], check["required"]) == ("", False, False)
        assert f"ss -ltnp 'sport = :{port}'" in check["seen"]
        assert f"cannot listen on 127.0.0.1:{port}" in home.cli("status").stdout
        app = aegis.App.create("web", command=["httpd", "-f", "-p", "127.0.0.1:80"], expose=[80], engine=home.engine)
        app.publish()
        failed = home.cli("app", "serve", "web", "--detach")
        assert (failed.returncode, f"127.0.0.1:{port}" in failed.stderr) == (1, True)
    instance = app.serve()
    url, check = _router(home)
    assert (url, check["ok"], instance.url) == (f"http://127.0.0.1:{port}", True, f"{url}/app/web/")
    assert httpx.get(f"{instance.url}etc/group").status_code == 200
    _see_it_wake(instance)


def _see_it_wake(instance: aegis.Instance) -> None:
    """A browser gets a page that loads itself again until its app is awake."""
    instance.sandbox.remove()
    browser = {"Accept": "text/html"}
    answer = httpx.get(f"{instance.url}etc/group", headers=browser)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert '<meta http-equiv="refresh" content="1">' in answer.text
    assert until(lambda: httpx.get(f"{instance.url}etc/group", headers=browser).status_code == 200, 15)


def test_a_home_with_a_long_name(another, tmp_path):
    """A home whose path is longer than the kernel's addresses of sockets serves as any other."""
    path = tmp_path / ("deep" * 20) / ("er" * 40)
    path.mkdir(parents=True)
    home = another(path / "home")
    assert len(str(home.socket)) > 150
    assert home.cli("up").returncode == 0
    assert home.engine.status().home == str(home.home)
    assert home.cli("down").returncode == 0


def test_in_the_foreground(another):
    """`aegis up --foreground` is the daemon itself, until it is told to end."""
    home = another()
    command = [sys.executable, "-m", "aegis_cli", "up", "--foreground"]
    with subprocess.Popen(command, env=home.environment, stderr=subprocess.PIPE, text=True) as process:
        assert until(home.socket.exists, 10)
        assert home.engine.status().pid == process.pid
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=15)[1]
    assert process.returncode == 0
    assert "ended" in said


def test_a_daemon_that_hangs_is_killed(another, monkeypatch):
    """`aegis down` waits for a daemon that does not end only so long, and says that it had to kill it."""
    from aegis_sdk import daemon

    monkeypatch.setattr(daemon, "_END", 1.0)
    monkeypatch.setattr(daemon, "_ANSWER", 1.0)
    home = another()
    home.start()
    pid = home.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(aegis.DaemonUnavailable, match="does not answer"):
        home.daemon.status()
    assert home.daemon.check()[0].fix == "aegis down"
    with pytest.raises(aegis.DaemonUnavailable, match=f"process {pid}, has not ended in 1 s, and was killed"):
        home.stop()
    assert home.pid is None


def test_a_full_reset(another):
    """`aegis down` and removing the home is a full reset: the next command starts from nothing."""
    home = another()
    home.start()
    home.ask("POST", "/v1/apps", {"name": "before"})
    home.stop()
    (home.home / "data" / "images").unlink()
    subprocess.run(["rm", "-r", str(home.home)], check=True)
    assert home.cli("status").returncode == 3
    home.start()
    assert home.ask("GET", "/v1/apps").json == []


def test_units_name_the_real_program(another):
    """`aegis up --print-unit` prints a unit with the program's real path and the settings that are not defaults."""
    home = another()
    said = home.cli("up", "--print-unit", env={**home.environment, "AEGIS_DRIVER": "qemu"}).stdout
    lines = said.splitlines()
    (started,) = (line for line in lines if line.startswith("ExecStart="))
    program = started.partition("=")[2].strip('"')
    assert subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.startswith(
        "aegisd "
    )
    assert f'Environment="AEGIS_HOME={home.home}"' in lines
    assert 'Environment="AEGIS_DRIVER=qemu"' in lines
    assert home.pid is None
    if verify := _which("systemd-analyze"):
        unit = home.home / "aegisd.service"
        unit.write_text(said)
        assert not subprocess.run([verify, "verify", "--user", str(unit)], capture_output=True, check=False).stdout


def _which(program: str) -> str | None:
    import shutil

    return shutil.which(program)


def test_a_property_list_for_macos(another):
    """On macOS it is a property list that launchd can read."""
    import plistlib

    from aegis_cli import units

    home = another()
    about = plistlib.loads(units.unit(home.daemon, "darwin").encode())
    assert about["ProgramArguments"] == list(home.daemon.command)
    assert about["EnvironmentVariables"]["AEGIS_HOME"] == str(home.home)


def test_aegis_host_names_another_daemon(another, served):
    """With AEGIS_HOST set to another daemon, status asks that one, and up and down refuse to touch it."""
    home = another()
    environment = {**home.environment, "AEGIS_HOST": str(served.socket)}
    shown = home.cli("status", "--json", env=environment)
    assert json.loads(shown.stdout)["pid"] == served.pid
    for command in ("up", "down"):
        refused = home.cli(command, env=environment)
        assert refused.returncode == 1
        assert "AEGIS_HOST" in refused.stderr
    assert served.engine.status().pid == served.pid


@pytest.mark.timeout(60)
def test_down_ends_guests_and_keep_starts_them_again(another):
    """`aegis down` ends all guests; with --keep, the next `aegis up` starts kept ones again."""
    home = another()
    before = monitors()
    home.start()
    home.engine.create(SandboxSpec(name="kept", keep=True), report=lambda _: None)
    assert home.cli("down", "--keep").returncode == 0
    assert monitors() <= before
    home.start()
    assert [(one.name, one.state) for one in home.engine.sandboxes()] == [("kept", aegis.State.RUNNING)]
    os.kill(home.pid, signal.SIGTERM)
    assert until(lambda: home.pid is None, 15)
    assert monitors() <= before
    home.start()
    assert [one.state for one in home.engine.sandboxes()] == [aegis.State.STOPPED]


def test_the_log_is_bounded(another, monkeypatch):
    """The daemon's log is cut into files of a mebibyte, of which the oldest go."""
    import logging

    from aegis_daemon import log

    home = another()
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    root.handlers = []
    try:
        log.to(home.daemon.log)
        root.handlers = [one for one in root.handlers if hasattr(one, "baseFilename")]
        for _ in range(80):
            root.error("%s", "x" * (1 << 16))
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers, logging.raiseExceptions = before[0], before[2]
        root.setLevel(before[1])
    sizes = [path.stat().st_size for path in home.daemon.log.parent.iterdir()]
    assert len(sizes) == 4
    assert sum(sizes) <= 4 << 20


def test_who_is_alone(tmp_path):
    """A lock has one holder, whose number others are told, and none when its process has ended, however."""
    lock = tmp_path / "lock"
    script = f"""
import sys, time
from pathlib import Path
from aegis_sdk.locks import alone
with alone(Path({str(lock)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    assert locks.holder(lock) is None
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert locks.holder(lock) == process.pid
        with pytest.raises(locks.Taken) as taken, locks.alone(lock):
            pass
        assert taken.value.pid == process.pid
        process.kill()
    assert locks.holder(lock) is None
    with locks.alone(lock):
        pass


@pytest.mark.parametrize("then", ["fcntl.lockf(lock, fcntl.LOCK_EX)\nsys.stdin.read()", ""], ids=["stays", "goes"])
def test_who_is_about_to_be_alone(tmp_path, then):
    """Who has half of a lock this moment is waited for: then its number is known, or the lock is free."""
    lock = tmp_path / "lock"
    script = f"""
import fcntl, sys, time
lock = open({str(lock)!r}, "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("half", flush=True)
time.sleep(0.2)
{then}
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            with locks.alone(lock):
                seen: object = "free"
        except locks.Taken as taken:
            seen = taken.pid
        assert seen == (process.pid if then else "free")


def test_a_socket_is_not_stolen(another):
    """A daemon that runs keeps its sockets when another one tries to start."""
    home = another()
    home.start()
    number = home.socket.lstat().st_ino
    late = subprocess.run(
        [sys.executable, "-P", "-m", "aegis_daemon", "--detached"],
        env=home.environment,
        capture_output=True,
        check=False,
    )
    assert late.returncode == 3
    assert home.socket.lstat().st_ino == number
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(home.socket))
