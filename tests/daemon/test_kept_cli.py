"""Kept sandboxes on the command line: made, shown, used, copied into and out of, ended."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
from collections.abc import Iterator

import pytest

import aegis_sdk as aegis
from tests.conftest import AEGIS, monitors, until
from tests.served import Served

pytestmark = [pytest.mark.of_qemu, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def dev(served: Served) -> Iterator[aegis.Sandbox]:
    """A sandbox ``dev`` that the command line has made."""
    made = served.cli("sandbox", "create", "--name", "dev", "--memory", "256", "--writable")
    assert (made.returncode, made.stdout) == (0, "dev\n"), made.stderr
    vm = aegis.Sandbox.get("dev", engine=served.engine)
    yield vm
    vm.remove()


def test_what_there_is(served, dev):
    """list and info show names, states and limits, for people and as JSON."""
    assert re.search(rf"^NAME +ID .*\ndev +{dev.id} +base +RUNNING +", served.cli("sandbox", "list").stdout)
    (listed,) = json.loads(served.cli("sandbox", "list", "--json").stdout)
    shown = json.loads(served.cli("sandbox", "info", "dev", "--json").stdout)
    assert (listed["name"], listed["memory"], listed["keep"]) == ("dev", 256, True)
    assert listed["id"] == shown["id"]
    facts = served.cli("sandbox", "info", dev.id).stdout
    assert "name          dev\n" in facts
    assert "kept          until it is removed\n" in facts


def test_ports(served, dev):
    """expose prints where ports are reached, info shows it, and conceal ends it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        local = other.getsockname()[1]
    shown = served.cli("sandbox", "expose", "dev", "8000", f"{local}:5432/tcp")
    url, address = shown.stdout.splitlines()
    assert (shown.returncode, address) == (0, f"127.0.0.1:{local}"), shown.stderr
    assert url.endswith(f"/app/sandbox-{dev.id}:8000/")
    facts = served.cli("sandbox", "info", "dev").stdout
    assert f"port 8000     {url}\nport 5432/tcp 127.0.0.1:{local}\n" in facts
    assert served.cli("sandbox", "expose", "dev", "8000/udp").returncode == 1
    assert served.cli("sandbox", "conceal", "dev", "8000", "5432/tcp").returncode == 0
    assert dict(dev.info().addresses) == {}


def test_ports_from_the_beginning(served):
    """create --expose says where the guest is reached; one that cannot be is not left behind."""
    before = len(served.engine.sandboxes())
    with socket.create_server(("127.0.0.1", 0)) as other:
        local = other.getsockname()[1]
        refused = served.cli("sandbox", "create", "--memory", "128", "--expose", f"{local}:5432/tcp")
    assert (refused.returncode, f"127.0.0.1:{local}" in refused.stderr) == (1, True)
    assert len(served.engine.sandboxes()) == before
    made = served.cli("sandbox", "create", "--memory", "128", "--expose", f"{local}:5432/tcp")
    assert made.stderr.endswith(f"aegis: 127.0.0.1:{local}\n")
    aegis.Sandbox.get(made.stdout.strip(), engine=served.engine).remove()


def test_exec(served, dev):
    """exec passes all three streams and the exit code, as run does; the guest runs on."""
    done = served.cli(
        "exec", "-e", "A=1", "--cwd", "/tmp", "dev", "--", "sh", "-c", "cat; pwd >&2; exit $A", input="in"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "in", "/tmp\n")
    assert served.cli("exec", "dev", "true").returncode == 0
    assert served.cli("exec", "dev", "no-such-thing").returncode == 127
    late = served.cli("exec", "--timeout", "0.5", "dev", "sleep", "100")
    assert (late.returncode, late.stderr) == (124, "aegis: timed out after 0.5 s\n")
    assert served.cli("exec", "dev").returncode == 125
    assert dev.info().state is aegis.State.RUNNING


def test_a_client_of_exec_that_is_killed(served, dev):
    """Who runs a command in a kept guest and is killed takes the command with it, and nothing else."""
    program = subprocess.Popen([*AEGIS, "exec", "dev", "sleep", "4321"], env=served.environment)
    assert until(lambda: "sleep 4321" in dev.run("ps").stdout, 15)
    program.kill()
    program.wait()
    assert until(lambda: "sleep 4321" not in dev.run("ps").stdout, 10)


def test_a_shell_in_it(served, dev):
    """shell --name opens a shell in a guest that is there, and refuses what is for fresh ones."""
    keyboard, terminal = pty.openpty()
    try:
        command = [*AEGIS, "shell", "--name", "dev"]
        refused = subprocess.run(
            [*command, "--memory", "128"], env=served.environment, stdin=terminal, capture_output=True, check=False
        )
        assert (refused.returncode, b"--memory is for a fresh guest" in refused.stderr) == (125, True)
        shell = subprocess.Popen(command, env=served.environment, stdin=terminal, stdout=subprocess.PIPE)
        os.write(keyboard, b"touch /etc/by-the-shell; exit 7\r")
        assert shell.wait(30) == 7
        assert shell.stdout
        shell.stdout.close()
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert dev.files.exists("/etc/by-the-shell")


def test_cp(served, dev, tmp_path):
    """cp carries files and trees in both directions, and a dash is a standard stream."""
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "below" / "script").write_text("#!/bin/sh\n")
    (tmp_path / "tree" / "below" / "script").chmod(0o755)
    assert served.cli("cp", f"{tmp_path}/tree", "dev:/workspace/tree").returncode == 0
    assert dev.files.stat("/workspace/tree/below/script").mode == 0o755
    assert served.cli("cp", "dev:/workspace/tree", f"{tmp_path}/back").returncode == 0
    assert (tmp_path / "back" / "below" / "script").read_text() == "#!/bin/sh\n"
    assert served.cli("cp", "-", "dev:/tmp/in", input="stream\n").returncode == 0
    assert served.cli("cp", "dev:/tmp/in", "-").stdout == "stream\n"
    gone = served.cli("cp", "dev:/tmp/nowhere", "-")
    assert (gone.returncode, gone.stderr.startswith("aegis: /tmp/nowhere in the guest: no such file")) == (1, True)
    for wrong in (("a", "b"), ("dev:/a", "dev:/b"), ("./dev:/a", "/b:c")):
        assert "NAME:PATH" in served.cli("cp", *wrong).stderr
    for script, code in (('"$@" - dev:/tmp/in <&-', 0), ('"$@" dev:/etc/passwd - >&-', 1)):  # closed streams
        command = ["sh", "-c", script, "sh", *AEGIS, "cp"]
        done = subprocess.run(command, env=served.environment, capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


def test_its_log(served, dev):
    """logs shows what its console has said and what was done with it, line by line as it comes."""
    follower = subprocess.Popen(
        [*AEGIS, "logs", "-f", "dev"], env=served.environment, stdout=subprocess.PIPE, text=True
    )
    dev.pause()
    dev.resume()
    dev.shell("echo by the guest > /dev/console", check=True)
    assert follower.stdout
    wanted = ["system it stands still\n", "boot   by the guest\n"]
    while wanted:
        line = follower.stdout.readline()
        assert line, f"it ended before {wanted}"
        wanted = [other for other in wanted if other != line]
    follower.kill()
    follower.wait()
    follower.stdout.close()
    assert len(served.cli("logs", "--tail", "1", "dev").stdout.splitlines()) == 1


def test_its_life(served):
    """stop, start and remove do what they say, and each error names the sandbox and what to do."""
    made = served.cli("sandbox", "create", "--memory", "128")
    name = made.stdout.strip()
    assert re.fullmatch("[0-9a-f]{12}", name)
    follower = subprocess.Popen([*AEGIS, "logs", "-f", name], env=served.environment, stdout=subprocess.DEVNULL)
    assert served.cli("sandbox", "stop", "--grace", "0", name).returncode == 0
    assert follower.wait(30) == 0
    stopped = served.cli("exec", name, "true")
    assert (stopped.returncode, f"sandbox {name} is stopped\n`aegis sandbox start {name}`" in stopped.stderr) == (
        125,
        True,
    )
    assert served.cli("sandbox", "start", name).returncode == 0
    assert served.cli("exec", name, "true").returncode == 0
    removed = served.cli("sandbox", "remove", name, "nobody")
    assert (removed.returncode, removed.stdout) == (1, f"removed {name}\n")
    assert "there is no sandbox nobody" in removed.stderr
    for none in (name, "", "no/body"):
        info = served.cli("sandbox", "info", none)
        assert info.stderr.startswith(
            f"aegis: there is no sandbox {none or repr(none)}\nthose of the daemon: `aegis sandb"
        )


def test_a_name_that_is_taken(served, dev):
    """A second sandbox of a name is refused before it boots, with what to do."""
    before = monitors()
    taken = served.cli("sandbox", "create", "--name", "dev")
    assert (taken.returncode, "there is a sandbox dev already" in taken.stderr) == (1, True)
    assert monitors() == before


def test_without_a_daemon(another):
    """Where no daemon is up, each command says how to start one."""
    home = another()
    for command in (("sandbox", "list"), ("sandbox", "create"), ("exec", "x", "y"), ("cp", "-", "x:/y"), ("logs", "x")):
        done = home.cli(*command)
        assert done.returncode == (125 if command[0] == "exec" else 1)
        assert "aegis up" in done.stderr


def test_a_run_that_waits_for_its_turn(another):
    """Who runs a command while there is no place for another guest is told so, and the command runs later."""
    home = another()
    assert home.cli("up", env={**home.environment, "AEGIS_TASK_GUESTS": "1"}).returncode == 0
    first = home.cli("run", "--detach", "--", "sleep", "100").stdout.strip()
    program = subprocess.Popen(
        [*AEGIS, "run", "--", "echo", "later"], env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with program:
        assert program.stderr
        assert b"waiting for other tasks to end" in program.stderr.readline()
        assert home.cli("task", "cancel", first).returncode == 0
        assert program.communicate(timeout=40) == (b"later\n", b"")


def test_what_a_name_means(served, dev):
    """A name may be an app's: one that is not served says so, and one that is a sandbox's, too, is refused."""
    app = aegis.App.create("shop", engine=served.engine)
    failed = served.cli("exec", "shop", "true")
    assert (failed.returncode, "the app shop is not served" in failed.stderr) == (125, True)
    assert "aegis app serve shop" in failed.stderr
    other = aegis.App.create("dev", engine=served.engine)
    for words in (("exec", "dev", "true"), ("cp", "dev:/etc/passwd", "-")):
        said = served.cli(*words).stderr
        assert all(each.id in said for each in (dev, other)), said
    assert served.cli("exec", dev.id, "true").returncode == 0
    assert served.cli("exec", "nobody", "true").returncode == 125
    app.delete()
    other.delete()
