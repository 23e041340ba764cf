"""What ``aegis run`` and others say of a guest's network."""

from __future__ import annotations

import json

import pytest

HOST = "10.201.0.9"
DIAL = ("--", "nc", "-w", "5", HOST, "80")


def test_a_refusal(cli):
    """Who is refused something, and fails, learns which option allows it; the log has each attempt, when it ends."""
    done = cli("run", "--network-log", "/dev/fd/1", *DIAL)
    assert done.returncode
    assert f"aegis run --network public --allow {HOST}:80".encode() in done.stderr
    event = json.loads(done.stdout)
    assert (event["address"], event["port"], event["allowed"], event["rule"]) == (HOST, 80, False, "public")


def test_rules(cli, tmp_path):
    """--allow alone is nothing else, --deny comes first, and --allow-host is a name for a port of this machine."""
    log = tmp_path / "log"
    script = f"nc -w 1 {HOST} 80; nc -w 1 93.184.216.34 80; nc -w 1 db 9; true"
    words = ("--allow", f"{HOST}:80", "--deny", f"{HOST}", "--allow-host", "db=127.0.0.1:9")
    assert cli("run", *words, "--network-log", str(log), "--", "sh", "-c", script).returncode == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(event["name"], event["rule"], event["allowed"]) for event in events] == [
        ("", HOST, False),
        ("", "none", False),
        ("db", "allow_host", True),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--network", "some"), b"--network"),
        (("--allow", "http://a.example"), b"it is a URL"),
        (("--allow-host", "db"), b"NAME=ADDRESS:PORT"),
        (("--allow-host", "db=127.0.0.1:1", "--allow-host", "db=127.0.0.1:2"), b"'db' leads to 127.0.0.1:1 and to"),
        (("--allow-host", "db=elsewhere:1"), b"not an address and a port"),
        (("--network-log", "/no/such/directory/log"), b"/no/such/directory/log"),
        (("-d", "--network-log", "/dev/null"), b"aegis task logs --network"),
    ],
)
def test_words_that_cannot_be_meant(cli, words, said):
    """What cannot be meant is refused in words, and opens nothing."""
    done = cli("run", *words, "--", "true")
    assert done.returncode
    assert said in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_apps_network(cli):
    """An app is created with a network, which an update replaces as a whole, or leaves as it is."""
    cli("app", "create", "--name", "reaching", "--allow", "packages.example.org:443", "--allow", "10.0.0.0/8")
    try:
        assert b"only packages.example.org:443, 10.0.0.0/8" in cli("app", "info", "reaching").stdout
        cli("app", "update", "reaching", "--memory", "256")
        assert b"only packages.example.org:443, 10.0.0.0/8" in cli("app", "info", "reaching").stdout
        cli("app", "update", "reaching", "--network", "none")
        found = json.loads(cli("app", "info", "--json", "reaching").stdout)["spec"]["sandbox"]["network"]
        assert (found["mode"], found["allow"]) == ("none", [])
    finally:
        cli("app", "delete", "reaching")
