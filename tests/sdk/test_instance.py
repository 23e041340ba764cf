"""One instance and its races, with guests made of nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import aegis_sdk as aegis
from aegis_sdk.engine.idleness import Look
from aegis_sdk.engine.instance_states import CRASHES, Event
from aegis_sdk.model import InstanceState
from tests.conftest import until
from tests.sdk.fake_server import SPEC, World

RUNNING, PAUSED, STOPPED = InstanceState.RUNNING, InstanceState.PAUSED, InstanceState.STOPPED
STARTING, FAILED = InstanceState.STARTING, InstanceState.FAILED


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes an instance of fakes, whose app is as the options say."""
    worlds: list[World] = []

    def made(*, pace: float = 0.0, **options: Any) -> World:
        spec = attrs.evolve(SPEC, **options)
        worlds.append(World(tmp_path / f"log{len(worlds)}", spec=spec, pace=pace))
        return worlds[-1]

    yield made
    for world in worlds:
        world.close()


def at_once(count: int, call: Callable[[], object]) -> list[BaseException]:
    """What *count* threads that do the same have raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            raised.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def is_in(world: World, state: InstanceState) -> bool:
    return until(lambda: world.instance.state is state, 5)


def test_a_hundred_at_once_are_one_boot(made):
    """Who asks while it starts waits for the same boot, and all are answered."""
    world = made(pace=0.05)
    assert not at_once(100, world.ask)
    assert (len(world.guests), world.dialled) == (1, 100)
    assert world.told == [True]


def test_it_falls_asleep_and_goes_on(made):
    """Unused it is paused, then stopped; asked in either state it answers, and only the latter costs a boot."""
    world = made(idle=0.02, stop_after=0.3)
    world.ask()
    assert is_in(world, PAUSED)
    world.ask()
    assert len(world.guests) == 1
    assert is_in(world, PAUSED)
    assert is_in(world, STOPPED)
    assert world.guests[0].stopped
    world.ask()
    assert len(world.guests) == 2
    assert "paused after 0.02 s" in world.log
    assert "stopped after 0.3 s more" in world.log


def test_it_never_sleeps_if_it_is_not_to(made):
    """Without a time for it, nothing puts it to sleep, and nothing asks its guest."""
    world = made(idle=None)
    world.look = None
    world.ask()
    assert not until(lambda: world.instance.state is not RUNNING, 0.3)


def test_a_nap_without_an_end(made):
    """Without a time for it, a paused one is not stopped."""
    world = made(idle=0.01, stop_after=None)
    world.ask()
    assert is_in(world, PAUSED)
    assert not until(lambda: world.instance.state is not PAUSED, 0.2)


def test_what_is_held_stays_awake(made):
    """However long a request or a connection lasts, it is not put to sleep under it."""
    world = made(idle=0.01)
    world.ask()
    assert world.instance.hold() or is_in(world, PAUSED)
    world.instance.wake()
    assert not until(lambda: world.instance.state is not RUNNING, 0.3)
    world.instance.let_go()
    assert is_in(world, PAUSED)


@pytest.mark.parametrize("look", [Look(cpu=0.0, busy=True)], ids=["busy"])
def test_what_is_busy_stays_awake(made, look):
    """What the guest says keeps it awake, for as long as it says so."""
    world = made(idle=0.02)
    world.look = look
    world.ask()
    assert not until(lambda: world.instance.state is not RUNNING, 0.3)
    world.look = Look(cpu=0.0)
    assert is_in(world, PAUSED)


@pytest.mark.timeout(60)
def test_five_hundred_races(made):
    """Requests race with pauses and with stops: none is lost, none meets a guest that stands still."""
    world = made(pace=0.001, idle=0.004, stop_after=0.006)

    def ask() -> None:
        pause = random.Random(threading.get_ident())
        for _ in range(170):
            until(lambda: False, pause.random() * 0.02)
            world.ask()

    assert not at_once(3, ask)
    assert len(world.guests) > 3
    assert world.log.count("paused after") > 50


def test_a_wake_races_with_a_nap_that_has_begun(made):
    """Who asks while it is being paused waits for that, and is then answered without a boot."""
    world = made(pace=0.2, idle=0.01)
    world.ask()
    for _ in range(3):
        assert until(lambda: world.instance.state is PAUSED and not world.guests[0].paused, 5)
        world.ask()
    assert len(world.guests) == 1


def test_its_owner_ends_what_starts(made):
    """Who waits for a start that is stopped hears of it at once, and the guest goes, however far it was."""
    world = made()
    world.gate.clear()
    raised: list[BaseException] = []
    waiting = threading.Thread(target=lambda: raised.extend(at_once(5, world.ask)))
    waiting.start()
    assert is_in(world, STARTING)
    closing = threading.Thread(target=world.instance.close, args=("it was stopped",))
    closing.start()
    waiting.join(5)
    assert [str(error) for error in raised] == ["it was stopped"] * 5
    world.gate.set()
    closing.join(5)
    assert all(guest.stopped for guest in world.guests)
    with pytest.raises(aegis.NotServed):
        world.instance.wake()


def test_a_server_that_exits(made):
    """Its end is noticed, said and logged; the next request boots anew. Code 0 is no crash, however often."""
    world = made()
    for count in range(1, CRASHES + 3):
        world.ask()
        world.guests[-1].exit("the server exited with code 0", crashed=False)
        assert is_in(world, STOPPED)
        assert world.instance.reason == "the server exited with code 0"
        assert len(world.guests) == count
    assert world.told[-2:] == [True, False]


def test_five_crashes(made):
    """The fifth crash in two minutes is the last: only its owner has it started again."""
    world = made()
    for _ in range(CRASHES):
        world.ask()
        world.guests[-1].exit("the server exited with code 1")
        assert until(lambda: world.instance.state in (STOPPED, FAILED), 5)
    assert is_in(world, FAILED)
    with pytest.raises(aegis.ServerFailed, match=r"crashed 5 times within 120 s, .*exited with code 1") as caught:
        world.ask()
    assert "aegis app serve" in caught.value.hint
    assert len(world.guests) == CRASHES
    world.instance.wake(Event.SERVED)
    assert is_in(world, RUNNING)
    world.guests[-1].exit("again")
    assert is_in(world, STOPPED)


def test_a_start_that_fails(made):
    """Who waits hears why, each of them, and so does the log; the next request tries again."""
    world = made(pace=0.05)
    world.unready = aegis.ServerFailed("it never listened", hint="expose 80")
    raised = at_once(10, world.ask)
    assert {str(error) for error in raised} == {"it never listened\nexpose 80"}
    assert len({id(error) for error in raised}) == 10
    assert "it never listened\nexpose 80" in world.log
    assert world.guests[0].stopped
    world.unready = None
    world.ask()
    assert world.instance.state is RUNNING


def test_what_keeps_it_from_booting_is_no_crash(made):
    """A secret that cannot be read is said as often as somebody asks, and no reason to give up."""
    world = made()
    world.refuses = aegis.SecretUnreadable("the secret KEY cannot be decrypted", hint="set it again")
    for _ in range(CRASHES + 1):
        with pytest.raises(aegis.SecretUnreadable, match="KEY"):
            world.ask()
    world.refuses = None
    world.ask()


def test_a_fault_of_ours(made):
    """What should not happen ends one boot, with words, and nothing hangs."""
    world = made()
    world.refuses = ZeroDivisionError("oh")
    with pytest.raises(aegis.ServerFailed, match="Aegis itself failed: ZeroDivisionError"):
        world.ask()


def test_a_guest_that_dies_in_its_sleep(made):
    """Nobody has to ask to find out; who asks gets a new one."""
    world = made(idle=0.01)
    world.ask()
    assert is_in(world, PAUSED)
    world.guests[0].died("its guest has ended: it was killed")
    assert is_in(world, STOPPED)
    assert "killed" in world.instance.reason
    world.ask()
    assert len(world.guests) == 2


def test_a_server_that_is_gone_when_it_is_woken(made):
    """A guest with nothing to go on is booted anew, for who asked first."""
    world = made(idle=0.01)
    world.ask()
    assert is_in(world, PAUSED)
    world.guests[0].exit("it ended a moment before")
    assert not at_once(5, world.ask)
    assert len(world.guests) == 2


def test_what_another_replaces_is_drained(made):
    """It waits for who uses it, and for no longer than it was told."""
    world = made()
    world.ask()
    world.instance.hold()
    drained = threading.Thread(target=world.instance.drain, args=(60,))
    drained.start()
    assert drained.is_alive()
    world.instance.let_go()
    drained.join(5)
    assert not drained.is_alive()
    world.instance.hold()
    world.instance.drain(0.05)
    world.instance.let_go()
