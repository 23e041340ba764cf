"""What was given in confidence is found nowhere but where it belongs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SECRET = "sesame-6f1c2a9e"  # it is one, for this test


def traces(directory: Path) -> list[Path]:
    """The files below *directory* that hold the secret."""
    return [path for path in directory.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def exposed() -> list[str]:
    """The processes of this machine, but for this one, whose arguments or environment hold it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            for name in ("cmdline", "environ"):
                try:
                    if SECRET.encode() in (entry / name).read_bytes():
                        found.append(f"{entry}/{name}")
                except OSError:
                    continue  # it has just ended
    return found


@pytest.mark.timeout(60)
def test_a_secret_is_seen_by_its_guests_command_alone(served):
    """A secret's value is in no file, log, answer, argument or environment of the host, and on no console."""
    answers = [
        served.ask("POST", "/v1/apps", {"name": "confident"}),
        served.ask("PUT", "/v1/apps/confident/secrets/TOKEN", {"value": SECRET}),
        served.ask("PUT", "/v1/secrets/OTHER", {"value": SECRET}),
        served.ask("PUT", "/v1/apps/confident/secrets/bad-name", {"value": SECRET}),
        served.ask("PUT", "/v1/apps/confident/secrets/TOKEN", {"valu": SECRET}),
        served.ask("PUT", "/v1/apps/confident/secrets/TOKEN", {"value": [SECRET]}),
        served.ask("PUT", "/v1/apps/confident/secrets/TOKEN", {"value_base64": SECRET}),
        served.ask("POST", f"/v1/apps/confident/secrets/{SECRET[:6]}", {"value": SECRET}),
    ]
    script = "test $(printf %s $TOKEN | wc -c) = 15 && test $OTHER = $TOKEN && echo right && sleep 4"
    task = served.ask("POST", "/v1/tasks", {"app_id": "confident", "command": ["sh", "-c", script]}).json["id"]
    answers.append(served.ask("GET", f"/v1/tasks/{task}/logs?follow=true&tail=1"))
    while served.ask("GET", f"/v1/tasks/{task}").json["state"] in ("QUEUED", "RUNNING"):
        answers += [served.ask("GET", f"/v1/{noun}") for noun in ("tasks", "apps", "secrets", "sandboxes")]
        assert exposed() == []
    done = served.ask("GET", f"/v1/tasks/{task}")
    assert done.json["state"] == "SUCCEEDED", served.ask("GET", f"/v1/tasks/{task}/logs").lines
    answers += [done, served.ask("GET", "/v1/apps/confident/secrets"), served.ask("GET", "/v1/checks")]
    assert not [answer for answer in answers if SECRET.encode() in answer.body]
    assert traces(served.home) == []


def test_a_command_may_say_what_it_knows(served):
    """What a command itself prints is its output, in its log and nowhere else."""
    script = "echo $SAID"
    served.ask("PUT", "/v1/secrets/SAID", {"value": SECRET})
    served.ask("POST", "/v1/apps", {"name": "talkative"})
    task = served.ask("POST", "/v1/tasks", {"app_id": "talkative", "command": ["sh", "-c", script]}).json["id"]
    assert served.ask("GET", f"/v1/tasks/{task}/wait?timeout=18").json["exit_code"] == 0
    assert served.ask("GET", f"/v1/tasks/{task}/logs").lines[0]["data"] == f"{SECRET}\n"
    assert {path.parent.name for path in traces(served.home)} == {task}
