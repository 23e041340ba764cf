"""Tasks: one command each, in a guest of its own, with a log, a time limit and a terminal state."""

from __future__ import annotations

import threading
import time

import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from tests.conftest import monitors, until

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(60)]

State = aegis.TaskState


@pytest.fixture
def submit():
    """Submits tasks, which end with the test."""
    made: list[aegis.Task] = []

    def submit(*command, **options):
        made.append(aegis.Task.submit(*command, **options))
        return made[-1]

    before = monitors()
    yield submit
    for task in made:
        task.cancel()
        if task._process:
            task.process.close()
    for task in made:
        assert task.wait(30).state.terminal
    assert until(lambda: monitors() <= before, 2)


def said(task, **options):
    return [(entry.source, entry.text) for entry in task.logs(**options)]


def test_a_task_from_its_submission_to_its_end(submit):
    """It is on record at once, its log is followed to its end, and then says how its command has ended."""
    script = "echo out; echo err >&2; printf 'no newline'; exit 3"
    task = submit("sh", "-c", script, env={"A": "b"}, timeout=50)
    assert task.info().state in (State.QUEUED, State.RUNNING)
    lines = list(task.logs(follow=True))
    assert task.state is State.FAILED
    info = task.wait(1)
    assert (info.exit_code, info.signal, info.sandbox, info.timeout) == (3, None, None, 50)
    assert "exit code 3" in info.reason
    assert info.created <= info.started < info.ended
    assert info.command == ("sh", "-c", script)
    assert [line.sequence for line in lines] == list(range(1, len(lines) + 1))
    assert {("stdout", "out\n"), ("stderr", "err\n"), ("stdout", "no newline")} <= set(said(task))
    assert list(task.logs(since=1)) == lines[1:]
    assert list(task.logs(tail=2)) == lines[-2:]
    assert aegis.Task.get(task.id[:8]).info() == info
    assert aegis.Task.list()[-1].id == task.id
    task.cancel()
    assert task.info() == info


def test_no_such_task():
    """Who asks for a task that is not there, or for none in particular, is told so."""
    for none in ("0123456789abcdef", "", "a/b"):
        with pytest.raises(aegis.TaskNotFound):
            aegis.Task.get(none)
    with pytest.raises(aegis.AppNotFound):
        aegis.Task.submit("true", app="no-such-app")
    with pytest.raises(aegis.InvalidValue):
        aegis.Task.submit("true", timeout=0)
    with pytest.raises(aegis.InvalidValue):
        aegis.Task.submit("true", tty=True)


def test_an_attached_task(submit):
    """Who is attached feeds it and reads it; its log has the same; when its exit is known, it is on record."""
    task = submit("sh", "-c", 'read x; echo "got $x"; echo err >&2; exit 4', attached=True)
    task.process.write("word\n")
    assert task.process.pid
    assert dict(task.process.output()) == {"stdout": b"got word\n", "stderr": b"err\n"}
    assert task.process.wait() == 4
    assert task.info().exit_code == 4
    assert {("stdout", "got word\n"), ("stderr", "err\n")} <= set(said(task))


def test_a_terminal(submit):
    """An attached task can have a terminal, which can be resized, and signals reach its command."""
    script = "trap 'echo caught; exit 7' INT; stty size; read x; stty size; while :; do sleep 0.1; done"
    task = submit("sh", "-c", script, attached=True, tty=(30, 90))
    process, shown = task.process, b""
    pieces = (piece for _, piece in process.output(30))
    while b"30 90" not in shown:
        shown += next(pieces)
    process.resize(40, 100)
    process.write("\n")
    while b"40 100" not in shown:
        shown += next(pieces)
    process.kill("SIGINT")
    assert b"caught" in b"".join(pieces)
    assert process.wait() == 7


def test_a_time_limit(submit):
    """A task that is not done in its time is asked to end, and what it says then is in its log."""
    task = submit("sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done", timeout=4)
    info = task.wait(30)
    assert (info.state, info.exit_code) == (State.TIMED_OUT, 0)
    assert ("stdout", "bye\n") in said(task)
    assert said(task, tail=1) == [("system", "it was ended after 4 s\n")]


def test_cancelling(submit):
    """A command is asked to end before it is killed; the task is CANCELLED, whatever the command makes of it."""
    task = submit("sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done")
    assert next(entry for entry in task.logs(follow=True) if entry.source == "stdout").text == "up\n"
    task.cancel()
    task.cancel()
    info = task.wait(30)
    assert (info.state, info.exit_code) == (State.CANCELLED, 3)
    assert ("stdout", "bye\n") in said(task)


def test_cancelling_a_boot(submit):
    """A task that is cancelled while its guest boots ends without its command."""
    task = submit("echo", "hello")
    assert until(lambda: task.state is State.RUNNING, 10)
    task.cancel()
    info = task.wait(30)
    assert (info.state, info.exit_code) == (State.CANCELLED, None)
    assert ("stdout", "hello\n") not in said(task)


def test_a_queue(submit):
    """More tasks than may run wait for their turn, in their order; one that is cancelled meanwhile never runs."""
    places = Config.from_environment().task_guests
    running = [submit("sleep", "100") for _ in range(places)]
    assert until(lambda: all(task.state is State.RUNNING for task in running), 20)
    first, second, third = (submit("echo", "hello") for _ in range(3))
    assert first.state is State.QUEUED
    with pytest.raises(TimeoutError, match="QUEUED"):
        first.wait(0.1)
    second.cancel()
    assert second.wait(5).state is State.CANCELLED
    for task in running:
        task.cancel()
    assert first.wait(40).state is State.SUCCEEDED
    assert third.wait(40).started > first.info().started
    assert second.info().started is None
    assert said(second, follow=True) == [("system", "it was cancelled\n")]


def test_a_guest_that_dies(submit):
    """A task whose guest ends has failed, and says why; who is attached is told the same."""
    task = submit("poweroff", "-f", attached=True)
    with pytest.raises(aegis.TaskFailed, match="powered off"):
        task.process.wait(30)
    info = task.info()
    assert (info.state, info.exit_code) == (State.FAILED, None)
    assert "powered off" in info.reason
    assert "powered off" in said(task)[-1][1]


def test_out_of_memory(submit):
    """A command that is killed for want of memory says so."""
    task = submit("tail", "/dev/zero", memory=128)
    info = task.wait(40)
    assert (info.state, info.exit_code, info.signal) == (State.FAILED, 137, "SIGKILL")
    assert "out of memory" in info.reason


def test_what_cannot_run(submit):
    """A task whose command is not there, or whose image is not, has failed with words."""
    assert submit("nosuch").wait(30).exit_code == 127
    info = submit("true", image="no.such.host/image", pull="never").wait(30)
    assert (info.state, info.exit_code) == (State.FAILED, None)
    assert "no.such.host/image" in info.reason


def test_hanging_up(submit):
    """When who is attached goes, the task is cancelled, and its guest gone."""
    task = submit("sleep", "100", attached=True)
    assert task.process.pid
    task.process.close()
    assert task.wait(15).state is State.CANCELLED


def test_who_is_attached_does_not_read(submit, monkeypatch):
    """A client that stops reading holds its own task up, no other one, and not the time limit."""
    monkeypatch.setattr("aegis_sdk.engine.run._LONGEST_END", 4.0)  # the engine's in this process; a daemon's is long
    stalled = submit("yes", attached=True, timeout=3)
    assert stalled.process.pid
    assert submit("echo", "hello").wait(30).state is State.SUCCEEDED
    info = stalled.wait(40)
    assert info.state is State.TIMED_OUT
    stalled.process.close()


def test_megabytes(submit):
    """Megabytes pass to who is attached whole, while the log keeps the end of them."""
    task = submit("sh", "-c", "yes | head -c 4000000", attached=True)
    assert sum(len(piece) for _, piece in task.process.output()) == 4_000_000
    assert task.process.wait() == 0
    last = list(task.logs(tail=3))
    assert [entry.sequence for entry in last] == list(range(last[0].sequence, last[0].sequence + 3))
    assert last[-1].sequence >= 2_000_000


def test_prompts(submit):
    """What waits for an answer in the middle of a line is in the log while it waits."""
    task = submit("sh", "-c", "printf 'name? '; read x; echo hello $x", attached=True)
    entry = next(entry for entry in task.logs(follow=True) if entry.source == "stdout")
    assert entry.text == "name? "
    task.process.write("you\n")
    assert task.process.wait() == 0


def test_an_app(submit):
    """A task of an app has its secrets, under what it asks for itself, and its workspace; no other has."""
    app = aegis.App.create(f"app-{time.time_ns()}")
    try:
        aegis.Secret.set("KEY", "of the app", app=app.info.name)
        aegis.Secret.set("OTHER", "of the app", app=app.info.name)
        script = 'echo "$KEY, $OTHER" > /workspace/said'
        assert submit("sh", "-c", script, app=app.info.name, env={"OTHER": "mine"}).wait(30).exit_code == 0
        task = submit("sh", "-c", 'cat /workspace/said; echo "$KEY"', app=app.info.id)
        assert task.wait(30).app == app.info.id
        assert said(task) == [("stdout", "of the app, mine\n"), ("stdout", "of the app\n")]
        alone = submit("sh", "-c", 'ls /workspace; echo "[$KEY]"')
        alone.wait(30)
        assert said(alone) == [("stdout", "[]\n")]
    finally:
        app.delete(workspace=True)


def test_many_who_wait(submit):
    """Any number of threads wait for a task, and follow it."""
    task = submit("sh", "-c", "sleep 1; echo hello")
    heard: list[object] = []

    def wait():
        heard.append(task.wait(30).state)

    def follow():
        heard.append([text for source, text in said(task, follow=True) if source == "stdout"])

    threads = [threading.Thread(target=work) for work in (wait, follow) * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert heard.count(State.SUCCEEDED) == 8
    assert heard.count(["hello\n"]) == 8
