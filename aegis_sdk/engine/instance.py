"""One instance, live: who uses it, what is under way with its guest, and what becomes of both.

One lock, which is never held across anything that a guest or a disk takes part in. The state changes first, and then
the machine: so what is seen to be awake is not put to sleep under whoever saw it.
"""

from __future__ import annotations

import copy
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

import attrs

from aegis_sdk.engine.idleness import Idleness
from aegis_sdk.engine.instance_base import End, Guest
from aegis_sdk.engine.instance_states import CRASHES, WITHIN, Course, Event
from aegis_sdk.engine.timer import Timer
from aegis_sdk.errors import (
    AegisError,
    BootFailed,
    ImageFailed,
    ImageNotFound,
    NotFound,
    NotServed,
    SecretUnreadable,
    ServerFailed,
    Unavailable,
)
from aegis_sdk.model import InstanceState, ReleaseInfo
from aegis_sdk.routing.base import Asleep, ServedInstance
from aegis_sdk.store.logs import Log

_GLANCE = 0.5  # Ctrl-C is heard in between, whichever thread the kernel gives it to
_GRACE = 5.0  # for a server between SIGTERM and its end
_LAST_WORDS = 1.0  # for what a server has said before it failed
_LONGEST = 3600.0  # of a wait
_AGAIN = 1.0  # until a guest is ended that somebody was about to wake
_JOIN = 30.0  # for threads, which have no guest any more
_OFTEN = f"it has crashed {CRASHES} times within {WITHIN:.0f} s"
_NO_CRASHES = (ImageFailed, ImageNotFound, NotFound, SecretUnreadable, Unavailable)


@attrs.define(eq=False)
class _Step:
    """What is under way with a guest, and waited for by all who want it awake."""

    over: bool = False
    awake: bool = False
    error: AegisError | None = None


class Instance:
    """What serves a release of an app; *id* is that of its place on record, *key* its own.

    *boot* makes a guest of that name, and is given what to tell how it has died. *changed* is called when the instance
    has come awake, or is that no more.
    """

    def __init__(
        self,
        id: str,
        key: str,
        release: ReleaseInfo,
        *,
        boot: Callable[[str, Callable[[str], None]], Guest],
        log: Log,
        timer: Timer,
        changed: Callable[[], None],
    ) -> None:
        self.id, self.key, self.release = id, key, release
        self._make, self._log, self._timer, self._tell = boot, log, timer, changed
        self._course, self.since = Course(), time.time()
        self._guest: Guest | None = None  # while it has one
        self._step: _Step | None = None  # while something is under way with that
        self._holds = self._boots = 0
        self._used = time.monotonic()
        self._closed = ""  # why, when it was
        self._nap: _Step | None = None  # the last one, from its beginning to the wake that ends it
        self._threads: set[threading.Thread] = set()
        self._changed = threading.Condition()

    @property
    def state(self) -> InstanceState:
        return self._course.state

    @property
    def reason(self) -> str:
        """Why it is in its state, where that is not plain."""
        return self._course.reason

    @property
    def sandbox(self) -> str | None:
        """The name of its guest, if it has one."""
        guest = self._guest
        return guest.name if guest else None

    def served(self) -> ServedInstance:
        ports = tuple(port.number for port in self.release.spec.expose if port.protocol == "http")
        awake = self.state is InstanceState.RUNNING
        return ServedInstance(id=self.key, release=self.release.name, ports=ports, awake=awake)

    def hold(self) -> bool:
        with self._changed:
            self._holds += 1
            self._used = time.monotonic()
            return self.state is InstanceState.RUNNING

    def let_go(self) -> None:
        with self._changed:
            self._holds -= 1
            self._used = time.monotonic()
            if not self._holds:
                self._changed.notify_all()

    def wake(self, event: Event = Event.ASKED) -> None:
        """Return when it is awake; NotServed if it was stopped, and else why it cannot be woken."""
        while True:
            with self._changed:
                self._used = time.monotonic()
                if not self._step and self.state is InstanceState.RUNNING:
                    return
                step = self._step or self._begin(event)
                while not step.over:
                    self._changed.wait(_GLANCE)
            if step.error:
                raise copy.copy(step.error) from step.error
            if step.awake:
                return

    def dial(self, port: int, *, timeout: float) -> socket.socket:
        guest = self._guest
        if not guest or self.state is not InstanceState.RUNNING:
            raise Asleep
        return guest.dial(port, timeout=timeout)

    def is_current(self) -> bool:
        """Whether its guest, if it has one, was given the secrets that a boot would give it now."""
        guest = self._guest
        return guest is None or guest.is_current()

    def drain(self, seconds: float) -> None:
        """Wait until nobody uses it, for so many seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._holds or bool(self._closed), seconds)

    def close(self, words: str, *, grace: float = _GRACE) -> None:
        """End it for good; who waits for it hears *words*."""
        with self._changed:
            self._closed = words
            was = self.state
            guest = self._part(Event.STOPPED, words, error=NotServed(words))
        if guest:
            self._end(guest, words, grace)
        if was is InstanceState.RUNNING:
            self._tell()
        for thread in self._threads.copy():
            if thread is not threading.current_thread():
                thread.join(_JOIN)

    def _move(self, event: Event, reason: str = "") -> bool:
        course = self._course.after(event, now=time.monotonic(), reason=reason)
        if course:
            self._course, self.since = course, time.time()
        return course is not None

    def _part(self, event: Event, reason: str, *, error: AegisError | None) -> Guest | None:
        """With the lock: change the state so that there is no guest; the one that there was is the caller's to end."""
        self._move(event, reason)
        guest, self._guest = self._guest, None
        self._settle(error=error)
        return guest

    def _settle(self, *, awake: bool = False, error: AegisError | None = None) -> None:
        """With the lock: end what is under way."""
        step, self._step = self._step, None
        if step:
            step.over, step.awake, step.error = True, awake, error
        self._changed.notify_all()

    def _begin(self, event: Event) -> _Step:
        """With the lock: begin what ends with it awake."""
        if self._closed:
            raise NotServed(self._closed)
        step = self._step = _Step()
        try:
            self._set_out(event)
        except BaseException as error:  # Ctrl-C included: nobody is to wait for what has not begun
            words = getattr(error, "message", "its start was interrupted")
            if guest := self._part(Event.ENDED, words, error=BootFailed(words)):
                self._timer.after(0, partial(guest.end, 0))
            raise
        return step

    def _set_out(self, event: Event) -> None:
        guest = self._guest
        if guest and self.state is InstanceState.PAUSED:
            self._nap = None
            self._go("resume", partial(self._resume, guest, event))
        elif self._move(event):
            self._boots += 1
            name = f"instance-{self.key}-{self._boots}"
            guest = self._guest = self._make(name, partial(self._hear_death, name))
            self._go("boot", partial(self._start, guest))
        else:
            raise ServerFailed(self.reason, hint=f"have it served again: `aegis app serve {self.release.app}`")

    def _go(self, what: str, call: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                call()
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, name=f"aegis-{what}-{self.key}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives this user, or this process, no more threads
            self._threads.discard(thread)
            raise BootFailed(f"no thread could be started: {error}") from error
        return thread

    def _start(self, guest: Guest) -> None:
        began, keeper = time.monotonic(), None
        try:
            guest.boot()
            if self._guest is guest:
                keeper = self._go("keep", partial(self._keep, guest))
                guest.await_ready()
        except Exception as error:  # noqa: BLE001  # a fault of ours is to end this boot, and those who wait for it
            if keeper:
                keeper.join(_LAST_WORDS)  # it knows better, if the server has ended
            self._fall(guest, *_judged(error))
        else:
            self._come_up(guest, Event.READY, f"{self.release.name} is ready after {time.monotonic() - began:.1f} s")
        if self._guest is not guest:  # who has parted with it may have been too early to end it
            guest.end(0)

    def _resume(self, guest: Guest, event: Event) -> None:
        slept = time.time() - self.since
        try:
            guest.resume()
            self._go("keep", partial(self._keep, guest))
        except Exception as error:  # noqa: BLE001  # as above
            self._fall(guest, *_judged(error), again=True)
        else:
            self._come_up(guest, event, f"goes on after {max(0.0, slept):.1f} s")

    def _come_up(self, guest: Guest, event: Event, words: str) -> None:
        if self._guest is guest:
            self._log.say(words)
        with self._changed:
            if self._guest is not guest:
                return
            self._used = time.monotonic()
            self._move(event)
            self._settle(awake=True)
        self._tell()

    def _fall(self, guest: Guest, event: Event, error: AegisError, *, again: bool = False) -> None:
        """Part with a guest that is of no use any more; with *again*, who waits for it is to try once more."""
        if self._guest is guest:
            self._log.say(_shortened(str(error)))
        with self._changed:
            if self._guest is not guest:
                return
            self._part(event, error.message, error=None if again else error)
            if failed := self.state is InstanceState.FAILED:
                self._course = attrs.evolve(self._course, reason=f"{_OFTEN}, the last time so: {error.message}")
        if failed:
            self._log.say(f"{_OFTEN}, and is started again only when its owner asks")
        self._tell()
        guest.end(0)

    def _keep(self, guest: Guest) -> None:
        """While it is awake: write down what its server says, and put it to sleep when nobody uses it."""
        idleness = Idleness(self.release.spec.idle or _LONGEST, time.monotonic())
        while self._guest is guest:
            idleness = self._known(idleness)
            try:
                if end := guest.carry(deadline=min(idleness.due, time.monotonic() + _LONGEST)):
                    return self._fall(guest, *self._meaning(end))
                idleness = self._known(idleness)
                if self.release.spec.idle is None or time.monotonic() < idleness.due:
                    continue
                seen = idleness.seen(guest.look(), time.monotonic())
                if seen is None and self._doze(guest, idleness.since):
                    return None
                idleness = seen or idleness
            except Exception as error:  # noqa: BLE001  # as above
                return self._fall(guest, *_judged(error))
        return None

    def _meaning(self, end: End) -> tuple[Event, AegisError]:
        early = self.state is InstanceState.STARTING
        words = f"{end.words} before it was ready" if early else end.words
        return Event.CRASHED if end.crashed or early else Event.ENDED, ServerFailed(words + end.said)

    def _known(self, idleness: Idleness) -> Idleness:
        with self._changed:
            in_use = self._holds or self.state is not InstanceState.RUNNING
            return idleness.used(time.monotonic() if in_use else self._used)

    def _doze(self, guest: Guest, since: float) -> bool:
        """Pause it, unless it was used after *since*; who wants it awake meanwhile waits, and then has it resumed."""
        with self._changed:
            awake = self._guest is guest and self.state is InstanceState.RUNNING
            if not awake or self._holds or self._used > since:
                return False
            self._move(Event.IDLE)
            nap = self._nap = self._step = _Step()
        self._tell()
        guest.pause()
        spec = self.release.spec
        if self._step is nap:
            self._log.say(f"paused after {spec.idle:g} s without a connection")
        with self._changed:
            if self._step is nap:
                self._settle()
        if spec.stop_after is not None:
            self._timer.after(spec.stop_after, partial(self._lay_down, nap))
        return True

    def _lay_down(self, nap: _Step) -> None:
        """End the guest that has slept since it began that *nap*, unless somebody is about to wake it."""
        words = f"stopped after {self.release.spec.stop_after:g} s more"
        with self._changed:
            if self._nap is not nap or self.state is not InstanceState.PAUSED:
                return
            if self._holds:
                self._timer.after(_AGAIN, partial(self._lay_down, nap))
                return
            guest = self._part(Event.LATE, words, error=None)
        if guest:
            self._end_aside(guest, words)

    def _end_aside(self, guest: Guest, words: str) -> None:
        try:
            self._go("end", partial(self._end, guest, words, _GRACE))
        except BootFailed:
            self._end(guest, words, 0)

    def _end(self, guest: Guest, words: str, grace: float) -> None:
        guest.end(grace)
        self._log.say(words)

    def _hear_death(self, name: str, words: str) -> None:
        """In the machine's own thread, which must not wait for its own end."""
        self._timer.after(0, partial(self._bury, name, words))

    def _bury(self, name: str, words: str) -> None:
        """Part with a guest that has died in its sleep; of others, their keeper knows more."""
        with self._changed:
            guest = self._guest
            asleep = self.state is InstanceState.PAUSED and not self._step
        if guest and guest.name == name and asleep:
            self._fall(guest, Event.CRASHED, ServerFailed(words))


def _judged(error: Exception) -> tuple[Event, AegisError]:
    """What a failure means; what keeps a guest from being booted says nothing about its server."""
    if not isinstance(error, AegisError):
        return Event.CRASHED, ServerFailed(f"Aegis itself failed: {error!r}")
    return (Event.ENDED if isinstance(error, _NO_CRASHES) else Event.CRASHED), error


def _shortened(words: str) -> str:
    """Without the last lines of a log or a console, for a log which has them."""
    return "\n".join(line for line in words.splitlines() if not line.startswith("  | "))
