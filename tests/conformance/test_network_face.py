"""What a user sees of a guest's network: its policy, what it tried, and how a refusal is told."""

from __future__ import annotations

import pytest

import aegis_sdk as aegis
from tests.outside_world import METADATA, PRIVATE, PUBLIC

pytestmark = pytest.mark.both_engines

DIAL = ("nc", "-w", "5")


@pytest.fixture
def reset(sandbox):
    """The guest of all tests, which may reach what it may by default, before and after the test."""
    yield sandbox
    sandbox.network.update("public")


def test_a_refusal_says_what_would_allow_it(reset, by_face):
    """A command that fails after the guest was refused something has a hint with the rule; one that went well none."""
    done = by_face.run(*DIAL, PRIVATE, "5432")
    assert done.exit_code
    assert f'Network(mode="public", allow=["{PRIVATE}:5432"]) allows it' in done.hint
    assert f"aegis run --network public --allow {PRIVATE}:5432" in done.hint
    assert [event.place for event in done.refused] == [f"{PRIVATE}:5432"]
    assert by_face.run("false").hint == ""
    assert by_face.shell(f"nc -w 5 {PRIVATE} 5432; true").refused == ()
    with pytest.raises(aegis.CommandFailed, match=f"{PRIVATE}:5432"):
        by_face.run(*DIAL, PRIVATE, "5432", check=True)


def test_what_is_denied_has_no_remedy(reset, by_face):
    """What a rule denies is told with that rule, and no other is offered."""
    by_face.network.update(mode="full", deny=["10.0.0.0/8"])
    done = by_face.run(*DIAL, PRIVATE, "80")
    assert done.hint == f"the guest was refused {PRIVATE}:80: deny has 10.0.0.0/8"


def test_events(reset, by_face):
    """Each attempt is told of when it is over, in its order: where to, by which rule, allowed or not."""
    by_face.network.update(allow=["10.1.2.3:80"])
    for address in (PRIVATE, METADATA):
        by_face.run(*DIAL, address, "80")
    by_face.run("nslookup", "b.example", timeout=5)
    last = [event for event in by_face.network.events() if event.rule == "none"]
    assert [(event.address, event.port, event.allowed) for event in last if event.port][-2:] == [
        (PRIVATE, 80, False),
        (METADATA, 80, False),
    ]
    assert last[-1].place == "b.example"
    assert last[-1].remedy == "b.example"
    assert all(event.time > 1e9 for event in last)


def test_another_policy_holds_at_once(reset, by_face, namespace):
    """What is updated holds for the next connection, of a guest that ran before, and is what policy and info say."""
    assert by_face.network.policy == aegis.Network()
    assert by_face.network.update("none") == aegis.Network(mode="none")
    assert by_face.run(*DIAL, PUBLIC, "80").refused[-1].remedy == f"{PUBLIC}:80"
    wanted = aegis.Network(allow=[f"{PUBLIC}:80"])
    assert by_face.network.update(allow=[f"{PUBLIC}:80"]) == wanted == by_face.network.policy
    assert by_face.info().network == wanted
    assert by_face.run(*DIAL, PUBLIC, "80").refused == ()  # nobody listens there, which is another refusal
    assert by_face.network.events()[-1].error


def test_what_cannot_be_meant(reset, by_face):
    """An update that says nothing, too little, too much or nonsense changes nothing."""
    before = by_face.network.policy
    for words, parts in (
        ((), {}),
        (("public",), {"deny": ["a.example"]}),
        (("nowhere",), {}),
        ((), {"allow": ["a b"]}),
        ((), {"deny": ["a.example"]}),
        ((), {"allow_host": {"db": "127.0.0.1:5432"}}),
    ):
        with pytest.raises(aegis.InvalidValue):
            by_face.network.update(*words, **parts)
    assert by_face.network.policy == before


def test_one_that_was_booted_without(boot):
    """A guest that could reach nothing from its boot on can be given more, and has its events until it is removed."""
    vm = boot(network="none")
    assert vm.run(*DIAL, PUBLIC, "80").refused[0].rule == "none"
    vm.network.update("public")
    assert vm.run(*DIAL, PRIVATE, "80").refused[0].rule == "public"
    vm.stop(0)
    assert len(vm.network.events()) == 2
    vm.remove()
    with pytest.raises(aegis.SandboxNotFound):
        vm.network.events()
    with pytest.raises(aegis.SandboxNotFound):
        vm.network.update("none")


def test_a_task(driver, engine):
    """What a task's guest tries is in its log, as values too, and a refusal is there in words, once."""
    script = f"for i in 1 2 3; do nc -w 5 {PRIVATE} 80; done; exit 3"
    task = aegis.Task.submit("sh", "-c", script, driver=driver, network=aegis.Network(allow=["10.1.2.3"]))
    assert task.wait(60).exit_code == 3
    assert [(event.place, event.allowed) for event in task.network_events()] == [(f"{PRIVATE}:80", False)] * 3
    said = [entry.text for entry in task.logs() if entry.source == "system"]
    assert [f'Network(allow=["{PRIVATE}:80"])' in text for text in said].count(True) == 1
