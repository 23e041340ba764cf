"""``aegis task``, and ``aegis run`` as what makes tasks, once with a daemon and once without."""

from __future__ import annotations

import json
import re
import signal
import subprocess

import httpx
import pytest

from tests.conftest import AEGIS, until

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def aegis(records):
    return records.cli


def latest(aegis):
    """The task that was submitted last."""
    return json.loads(aegis("task", "list", "--json").stdout)[-1]


def test_a_run_is_a_task(aegis):
    """What `aegis run` did is on record: how it ended, and what it said, each on its own stream."""
    assert aegis("run", "--", "sh", "-c", "echo out; echo err >&2; exit 3").returncode == 3
    info = latest(aegis)
    assert (info["state"], info["exit_code"], info["image"]) == ("FAILED", 3, "base")
    short = info["id"][:8]
    logs = aegis("task", "logs", short)
    assert (logs.stdout, logs.stderr) == ("out\n", "err\n")
    stamped = aegis("task", "logs", "--timestamps", "--tail", "5", short)
    moment, source, text = stamped.stdout.split()
    assert (moment[4], source, text) == ("-", "stdout", "out")
    shown = aegis("task", "info", short).stdout
    assert info["id"] in shown
    assert "its command failed with exit code 3" in shown
    assert json.loads(aegis("task", "info", "--json", short).stdout) == info
    assert short in aegis("task", "list", "--state", "failed").stdout
    assert short not in aegis("task", "list", "--state", "QUEUED").stdout
    assert aegis("task", "wait", short).returncode == 3
    assert aegis("task", "cancel", short).returncode == 0


def test_an_exposed_port(records):
    """`aegis run --expose` says where the port is reached, on standard error, and it is until the command ends."""
    command = [*AEGIS, "run", "--expose", "8000", "--expose", "5432/tcp", "--", "httpd", "-f", "-p", "127.0.0.1:8000"]
    with subprocess.Popen(command, env=records.environment, stderr=subprocess.PIPE, text=True, cwd="/") as running:
        url = running.stderr.readline().removeprefix("aegis: ").strip()
        assert httpx.get(f"{url}etc/passwd", timeout=30).text.startswith("root:")
        assert re.fullmatch(r"aegis: 127\.0\.0\.1:[0-9]+ \(5432/tcp\)\n", running.stderr.readline())
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130


def test_no_such_task(aegis):
    """A task that is not there is an error in words, and no command's exit code."""
    done = aegis("task", "info", "0123456789ab")
    assert done.returncode == 1
    assert "no task 0123456789ab" in done.stderr
    assert aegis("task", "wait", "0123456789ab").returncode == 125


def test_a_task_that_runs_out_of_time(aegis):
    """`aegis run` and `aegis task wait` exit with 124, and say why."""
    done = aegis("run", "--timeout", "1", "--", "sleep", "100")
    assert (done.returncode, done.stderr) == (124, "aegis: timed out after 1 s\n")
    info = latest(aegis)
    assert (info["state"], info["timeout"]) == ("TIMED_OUT", 1)
    done = aegis("task", "wait", info["id"])
    assert (done.returncode, done.stderr) == (124, "aegis: timed out after 1 s\n")
    assert aegis("task", "logs", info["id"]).stderr == "aegis: it was ended after 1 s\n"


def test_limits(aegis):
    """Without a limit of its own a task has 15 minutes; `none` is none."""
    assert aegis("run", "--timeout", "none", "--", "true").returncode == 0
    assert latest(aegis)["timeout"] is None
    assert aegis("run", "--", "true").returncode == 0
    assert latest(aegis)["timeout"] == 900
    done = aegis("run", "--timeout", "soon", "--", "true")
    assert done.returncode == 125
    assert "neither a number of seconds nor 'none'" in done.stderr


def test_a_run_that_somebody_cancels(aegis, records):
    """It ends with 125, and says that it was cancelled; so does who waits for it."""
    command = [*AEGIS, "run", "--", "sh", "-c", "echo up; sleep 100"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=records.environment
    ) as run:
        assert run.stdout.readline() == "up\n"
        id = latest(aegis)["id"]  # noqa: A001  # it is one
        assert aegis("task", "cancel", id).stdout == f"{id}\n"
        assert run.wait(30) == 125
        assert run.stderr.read() == "aegis: it was cancelled\n"
    done = aegis("task", "wait", id)
    assert (done.returncode, done.stderr) == (125, "aegis: it was cancelled\n")


def test_a_run_that_is_killed(aegis, records):
    """When `aegis run` is killed, its task has ended soon."""
    command = [*AEGIS, "run", "--", "sh", "-c", "echo up; sleep 100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=records.environment) as run:
        assert run.stdout.readline() == "up\n"
        run.send_signal(signal.SIGKILL)
    assert until(lambda: latest(aegis)["state"] in ("FAILED", "CANCELLED"), 15)


def test_an_app(aegis):
    """With --app a command has the secrets and the workspace of that app."""
    assert aegis("app", "create", "--name", "runner").returncode == 0
    assert aegis("secret", "set", "runner", "KEY", "--value", "value").returncode == 0
    done = aegis("run", "--app", "runner", "--", "sh", "-c", 'echo "$KEY" > /workspace/said')
    assert done.returncode == 0, done.stderr
    assert aegis("run", "--app", "runner", "--", "cat", "/workspace/said").stdout == "value\n"
    assert aegis("run", "--app", "nosuch", "--", "true").returncode == 125
    assert "value" not in aegis("task", "list", "--json").stdout


def test_left_to_the_daemon(aegis, records):
    """With --detach the daemon runs it; without a daemon, that is refused with the command that starts one."""
    done = aegis("run", "--detach", "--", "sh", "-c", "sleep 1; echo hello; exit 5")
    if not records.pid:
        assert done.returncode == 125
        assert "aegis up" in done.stderr
        return
    id = done.stdout.strip()  # noqa: A001
    assert aegis("task", "logs", "-f", id).stdout == "hello\n"
    assert aegis("task", "wait", id).returncode == 5
    done = aegis("run", "--detach", "-t", "--", "sh")
    assert done.returncode == 125
    assert "exclude" in done.stderr
