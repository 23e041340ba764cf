"""SIGKILL of the daemon at random moments, under a load."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from http.client import HTTPException

import attrs
import pytest

from aegis_sdk import wire
from aegis_sdk.model import TaskInfo
from tests.conftest import monitors, until
from tests.served import Served

_KILLS = 8
_PATIENCE = 15.0  # seconds after which a client is taken to hang


@attrs.define
class Load:
    """Clients that go on whatever happens to the daemon, and keep in mind what it has acknowledged."""

    served: Served
    tasks: list[str] = attrs.field(factory=list)
    secrets: dict[str, int] = attrs.field(factory=dict)  # the last value of each that was acknowledged
    tried: dict[str, int] = attrs.field(factory=dict)  # the last one that was sent
    apps: list[str] = attrs.field(factory=list)
    errors: int = 0
    longest: float = 0.0
    over: threading.Event = attrs.field(factory=threading.Event)

    def submit(self, number: int) -> None:
        """Submit a task."""
        answer = self.served.ask("POST", "/v1/tasks", {"command": ["echo", str(number)]})
        if answer.status == 201:
            self.tasks.append(answer.json["id"])

    def set(self, number: int) -> None:
        """Write a secret."""
        name = f"SECRET_{number % 5}"
        self.tried[name] = number
        if self.served.ask("PUT", f"/v1/secrets/{name}", {"value": str(number)}).status == 200:
            self.secrets[name] = number

    def create(self, number: int) -> None:
        """Make an app."""
        if self.served.ask("POST", "/v1/apps", {"name": f"app-{number}"}).status == 201:
            self.apps.append(f"app-{number}")

    def follow(self, _: int) -> None:
        """Follow the log of the newest task, for as long as the daemon lives or the task runs."""
        if self.tasks:
            self.served.ask("GET", f"/v1/tasks/{self.tasks[-1]}/logs?follow=true")

    def go_on(self, act: Callable[[int], None], rest: float) -> None:
        """Do *act* again and again, with whatever error, until it is over."""
        number = 0
        while not self.over.wait(rest):
            number += 1
            began = time.monotonic()
            try:
                act(number)
            except (OSError, HTTPException, ValueError, IndexError):  # an answer that was cut off, too
                self.errors += 1
            self.longest = max(self.longest, time.monotonic() - began)


@pytest.mark.timeout(240)
def test_killed_again_and_again(another):
    """SIGKILL at any moment: what was acknowledged is there, each task ends, no guest is left, and nobody hangs."""
    served, before = another(), monitors()
    served.start()
    load = Load(served)
    clients = [
        threading.Thread(target=load.go_on, args=(act, rest))
        for act, rest in ((load.submit, 1.0), (load.set, 0.02), (load.create, 0.1), (load.follow, 0.05))
    ]
    for client in clients:
        client.start()
    try:
        for _ in range(_KILLS):
            time.sleep(random.uniform(0.05, 1.5))
            served.kill()
            assert until(lambda: monitors() <= before, 5), "guests outlive the daemon"
            served.start()
            assert served.ask("GET", "/v1/status").json["sandboxes"] <= len(load.tasks) + 1
    finally:
        load.over.set()
        for client in clients:
            client.join(timeout=60)
    assert not any(client.is_alive() for client in clients), "a client hangs"
    assert load.longest < _PATIENCE
    assert load.errors, "nobody noticed anything"
    _all_is_there(served, load)
    served.kill()
    with contextlib.closing(sqlite3.connect(served.home / "data" / "aegis.db")) as records:
        assert records.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert records.execute("PRAGMA foreign_key_check").fetchall() == []
    served.start()
    _all_is_there(served, load)


def _all_is_there(served: Served, load: Load) -> None:
    infos = {info.id: info for info in wire.loads(served.ask("GET", "/v1/tasks").body, tuple[TaskInfo, ...])}
    assert set(load.tasks) <= set(infos)
    assert until(lambda: all(served.ask("GET", f"/v1/tasks/{task}").json["ended"] for task in infos), 60)
    for info in wire.loads(served.ask("GET", "/v1/tasks").body, tuple[TaskInfo, ...]):
        assert info.state.terminal
        assert info.state == "SUCCEEDED" or "the process that ran it has ended" in info.reason, info
    assert {app["name"] for app in served.ask("GET", "/v1/apps").json} >= set(load.apps)
    assert {secret["name"] for secret in served.ask("GET", "/v1/secrets").json} >= set(load.secrets)
    values = _values(served)
    for name, number in load.secrets.items():
        assert number <= int(values[name]) <= load.tried[name], "an acknowledged write is lost"


def _values(served: Served) -> dict[str, str]:
    """The secrets, as a guest gets them."""
    served.ask("POST", "/v1/apps", {"name": "reader"})
    task = served.ask("POST", "/v1/tasks", {"app_id": "reader", "command": ["env"]}).json["id"]
    assert served.ask("GET", f"/v1/tasks/{task}/wait?timeout=30").json["state"] == "SUCCEEDED"
    said = served.ask("GET", f"/v1/tasks/{task}/logs").lines
    return dict(
        json.dumps(line["data"]).strip('"').replace("\\n", "").split("=", 1) for line in said if "=" in line["data"]
    )
