"""Tasks of several processes in one home: each sees all, may cancel each, and none outlives its own."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

import aegis_sdk as aegis
from tests.conftest import monitors, until
from tests.served import Served

pytestmark = pytest.mark.timeout(90)

State = aegis.TaskState
SUBMITTER = """
import sys, time
import aegis_sdk as aegis
for word in sys.argv[1:]:
    print(aegis.Task.submit("sh", "-c", word).id, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def alone(tmp_path, home, monkeypatch):
    """A home of the test's own, whose images are all tests'."""
    path = Served.made(tmp_path / "home", home / "data" / "images").home
    monkeypatch.setenv("AEGIS_HOME", str(path))
    return path


def submitter(*scripts, **options):
    command = [sys.executable, "-c", SUBMITTER, *scripts]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.in_process
def test_a_task_of_another_process(alone):
    """A task of another process is followed, waited for and cancelled as if it were ours."""
    with submitter("echo up; sleep 100") as other:
        task = aegis.Task.get(other.stdout.readline().strip())
        lines = task.logs(follow=True)
        assert next(line for line in lines if line.source == "stdout").text == "up\n"
        with pytest.raises(aegis.InvalidValue, match="another process"):
            task._engine.tasks.attach(task.id)
        task.cancel()
        assert [line.text for line in lines] == ["it was cancelled\n"]
        assert task.wait(1).state is State.CANCELLED
        other.stdin.close()
        assert other.wait(20) == 0


@pytest.mark.in_process
def test_the_end_of_a_program(alone):
    """A program that ends, ends its tasks, also those that wait for their turn; they are CANCELLED."""
    before = monitors()
    with submitter(*["sleep 100"] * 5) as other:
        ids = [other.stdout.readline().strip() for _ in range(5)]
        other.stdin.close()
        assert other.wait(30) == 0
    assert {task.state for task in map(aegis.Task.get, ids)} == {State.CANCELLED}
    assert until(lambda: monitors() <= before, 2)


@pytest.mark.in_process
def test_a_program_that_is_killed(alone):
    """Whenever a program is killed, each of its tasks reaches its end, and no guest is left."""
    before = monitors()
    for _ in range(3):
        with submitter("true", "echo hello; sleep 100", "sleep 100") as other:
            ids = [other.stdout.readline().strip() for _ in range(3)]
            waiting = aegis.Task.get(ids[-1])
            time.sleep(random.uniform(0, 3))
            other.send_signal(signal.SIGKILL)
            assert waiting.wait(10).state is State.FAILED
            assert "has ended" in waiting.info().reason
        assert {task.state for task in map(aegis.Task.get, ids)} <= {State.FAILED, State.SUCCEEDED}
        assert until(lambda: monitors() <= before, 2)
    assert len({info.id for info in _all()}) == 9


def _all():
    return [task.info() for task in aegis.Task.list()]


@pytest.mark.in_process
def test_a_secret_that_cannot_be_read(alone):
    """It fails a task before its guest boots, and is named, with what to do; its value is nowhere."""
    app = aegis.App.create("mine")
    aegis.Secret.set("API_KEY", "hunter2", app="mine")
    (alone / "master.key").unlink()
    task = aegis.Task.submit("true", app="mine")
    info = task.wait(20)
    assert (info.state, info.app) == (State.FAILED, app.id)
    assert "API_KEY" in info.reason
    assert "aegis secret set" in info.reason
    assert "boot" not in "".join(entry.text for entry in task.logs())
    assert aegis.Task.submit("true").wait(30).state is State.SUCCEEDED


@pytest.mark.in_process
def test_old_tasks_are_forgotten(alone, monkeypatch):
    """Of the tasks that have ended, the latest are remembered, and no number or ID comes again."""
    from aegis_sdk.store import tasks

    made = [aegis.Task.submit("true", image="no.such.host/image", pull="never") for _ in range(4)]
    for task in made:
        assert task.wait(20).state is State.FAILED
    monkeypatch.setattr(tasks, "REMEMBERED", 2)
    made.append(aegis.Task.submit("true", image="no.such.host/image", pull="never"))
    made[-1].wait(20)
    left = [task.id for task in aegis.Task.list()]
    assert left == [task.id for task in made[-2:]]
    assert sorted(path.name for path in (alone / "data" / "logs" / "tasks").iterdir()) == sorted(left)


@pytest.mark.timeout(600)
def test_many_at_once(daemon_of_all):
    """12 tasks that are submitted at once all end, in their order, as many at a time as may run."""
    engine = daemon_of_all.engine
    tasks = [aegis.Task.submit("sh", "-c", f"echo {number}", engine=engine) for number in range(12)]
    infos = [task.wait(500) for task in tasks]
    assert {info.state for info in infos} == {State.SUCCEEDED}
    for number, task in enumerate(tasks):
        assert [entry.text for entry in task.logs() if entry.source == "stdout"] == [f"{number}\n"]
    started = [info.started or 0 for info in infos]
    assert started == sorted(started)
