"""Which instances serve which app: begun, switched, stopped, and found again by the next daemon."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import attrs

from aegis_sdk.config import Config
from aegis_sdk.engine.base import Report
from aegis_sdk.engine.instance import Instance
from aegis_sdk.engine.instance_guest import ServerGuest
from aegis_sdk.engine.instance_logs import InstanceLogs
from aegis_sdk.engine.instance_states import Event
from aegis_sdk.engine.placements import Placements
from aegis_sdk.engine.timer import Timer
from aegis_sdk.errors import AegisError, AppNotFound, NotServed, Unavailable
from aegis_sdk.model import AppInfo, InstanceInfo, ReleaseInfo
from aegis_sdk.store.logs import Log
from aegis_sdk.store.reader import LogReader

if TYPE_CHECKING:
    from aegis_sdk.engine.local import LocalEngine

_DRAIN = 60.0  # for who still uses an instance whose place another has taken
_CLOSE = 20.0  # for all of them to end


@attrs.define(eq=False)
class _Lineup:
    """What serves an app, the default first; who comes, counted by those who wait to see them serve; and who leaves."""

    app: AppInfo
    instances: tuple[Instance, ...] = ()
    coming: Counter[Instance] = attrs.field(factory=Counter)
    leaving: set[Instance] = attrs.field(factory=set)
    addresses: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def all(self) -> tuple[Instance, ...]:
        return (*self.instances, *(one for one in self.coming if one not in self.instances))

    def serves(self, release: str) -> Instance | None:
        """Who serves that release, or comes to do so, if anybody does; who comes is the newer one."""
        known = (*self.coming, *self.instances)
        return next((one for one in known if one.release.id == release), None)


class Serving:
    """The instances of one engine, those that *placements* has first, asleep until they are asked for."""

    def __init__(self, engine: LocalEngine, config: Config, *, placements: Placements, keeps: bool) -> None:
        """With *keeps*, they are there as long as their records, and all apps are known to the ingress."""
        self._engine, self._placements, self._keeps = engine, placements, keeps
        self._logs = InstanceLogs(config, keeps=keeps)
        self._timer = Timer()
        self._lock = threading.RLock()  # of all below; never held across a boot
        self._lineups: dict[str, _Lineup] = {}
        self._forgotten: set[str] = set()  # the apps that are deleted now, or were
        self._made = 0
        self._closed = False
        self._aside: set[threading.Thread] = set()
        #: What kept apps from being served again as they were, by their names.
        self.faults: dict[str, AegisError] = {}
        if keeps:
            self._restore()
        atexit.register(_close, weakref.ref(self), os.getpid())

    def serve(self, app: str, *, release: str | None, beside: bool, report: Report) -> InstanceInfo:  # noqa: ARG002  # its image is here
        info = self._engine.apps.get(app)
        wanted = self._engine.apps.release(info.id, release)
        instance = self._candidate(info, wanted)
        try:
            self._engine.ingress.open()
            self._expose(info.id)
            instance.wake(Event.SERVED)
            self._admit(info, instance, beside=beside)
        except BaseException:
            self._reject(info, instance)
            raise
        return self._info(info.id, instance)

    def stop(self, app: str, *, release: str | None = None) -> None:
        info = self._engine.apps.get(app)
        wanted = None if release is None else self._engine.apps.release(info.id, release).id
        self._stop(info.id, wanted, f"the app {info.name} was stopped by its owner")

    def wake(self, app: str, *, release: str | None = None) -> InstanceInfo:
        info = self._engine.apps.get(app)
        wanted = None if release is None else self._engine.apps.release(info.id, release).id
        with self._lock:
            served = self._lineups[info.id].instances if info.id in self._lineups else ()
            instance = next((one for one in served if wanted in (None, one.release.id)), None)
        if not instance:
            raise _not_served(info, release)
        instance.wake()
        return self._info(info.id, instance)

    def instances(self, app: str | None = None) -> tuple[InstanceInfo, ...]:
        wanted = None if app is None else self._engine.apps.get(app).id
        with self._lock:
            found = [(key, one) for key, lineup in self._lineups.items() if wanted in (None, key) for one in lineup.all]
        return tuple(self._info(key, one) for key, one in found)

    def reader(
        self, app: str, *, release: str | None = None, follow: bool = False, since: int = 0, tail: int | None = None
    ) -> LogReader:
        """The log of an instance, as ``Apps.logs``, for who waits for many things at once."""
        return self._logs.reader(self._spoken_of(app, release), follow=follow, since=since, tail=tail)

    def log(self, app: str, *, release: str | None = None) -> Log:
        """Where it is written about the instance whose log ``reader`` reads; NotServed."""
        return self._logs.log(self._spoken_of(app, release))

    def know(self, info: AppInfo) -> None:
        """Tell the ingress of an app that is not served yet, or was not deleted after all."""
        with self._lock:
            self._forgotten.discard(info.id)
        if self._keeps:
            self._known(info)

    def forget(self, app: str) -> None:
        """Stop an app, by its ID, and have nothing left of its instances; nobody serves it until it is known again."""
        with self._lock:
            self._forgotten.add(app)
        self._stop(app, None, "its app was deleted")
        with self._lock:
            self._lineups.pop(app, None)
            self._engine.ingress.take_away(app)
        for instance in self._placements.instances(app):
            self._logs.forget(instance)

    def close(self) -> None:
        """End all instances; what is on record is served again by the next daemon."""
        with self._lock:
            self._closed = True
            found = [one for lineup in self._lineups.values() for one in (*lineup.all, *lineup.leaving)]
        self._at_once(partial(one.close, "its engine was closed") for one in found)
        for thread in self._aside.copy():
            thread.join(_CLOSE)
        self._timer.close()
        self._logs.close()

    def _restore(self) -> None:
        served = self._placements.served()
        for name in self._engine.apps.names():
            try:
                info = self._engine.apps.get(name)
                self.know(info)
                releases = [self._engine.apps.release(info.id, release) for release in served.get(info.id, ())]
                self._place(info.id, tuple(self._new(info.id, release) for release in releases))
                self._expose(info.id)
            except AegisError as error:  # which keeps no other app from being served
                self.faults[name] = error

    def _spoken_of(self, app: str, release: str | None) -> str:
        """The ID of the instance of a release, by default that which serves an app, or did so last; NotServed.

        While none has, it is the newest of those that were to: who asks wants to know why it does not.
        """
        info = self._engine.apps.get(app)
        wanted = self._engine.apps.release(info.id, release).id if release else self._placements.last(info.id)
        found = self._placements.find(info.id, wanted) if wanted else None
        if wanted is None:
            found = next(reversed(self._placements.instances(info.id)), None)
        if not found:
            raise _not_served(info, release)
        return found

    def _known(self, info: AppInfo) -> _Lineup:
        with self._lock:
            if info.id in self._forgotten:
                raise AppNotFound(
                    f"the app {info.name} was deleted", hint="`aegis app list` shows those that there are"
                )
            if info.id not in self._lineups:
                self._lineups[info.id] = _Lineup(info)
                self._engine.ingress.place(info.id, info.name, ())
            return self._lineups[info.id]

    def _candidate(self, info: AppInfo, release: ReleaseInfo) -> Instance:
        """Who is to serve a release: who does so already, unless that was booted with other secrets than these."""
        while True:
            with self._lock:
                known = self._known(info).serves(release.id)
            current = known is not None and known.is_current()
            with self._lock:
                if self._closed:
                    raise Unavailable("this engine has been closed")
                lineup = self._known(info)
                if lineup.serves(release.id) is known:  # and nobody else has changed that meanwhile
                    instance = known if known and current else self._new(info.id, release)
                    lineup.coming[instance] += 1
                    return instance

    def _new(self, app: str, release: ReleaseInfo) -> Instance:
        self._made += 1
        identity = self._placements.identity(app, release.id)
        log = self._logs.log(identity)
        return Instance(
            identity,
            f"{identity}-{self._made}",
            release,
            boot=lambda name, died: ServerGuest(self._engine, name, release, log=log, died=died),
            log=log,
            timer=self._timer,
            changed=partial(self._engine.ingress.changed, app),
        )

    def _admit(self, info: AppInfo, instance: Instance, *, beside: bool) -> None:
        """Have an instance serve, which is ready, and let those go whose place it takes."""
        with self._lock:
            lineup = self._lineups.get(info.id)
            if not lineup or instance not in lineup.all:
                raise NotServed(f"the app {info.name} was stopped while it started")
            before = lineup.instances
            place: tuple[Instance, ...] = (instance,)
            if beside and any(one.release.id == instance.release.id for one in before):
                place = tuple(instance if one.release.id == instance.release.id else one for one in before)
            elif beside:
                place = (*before, instance)
            self._placements.put(info.id, tuple(one.release.id for one in place))
            self._place(info.id, place)
            self._count_out(lineup, instance)
            leaving = [one for one in before if one not in place]
            lineup.leaving.update(leaving)
        self._expose(info.id)
        for one in leaving:
            self._go(partial(self._retire, lineup, one))

    def _reject(self, info: AppInfo, instance: Instance) -> None:
        """Who waited to see an instance serve does so no more."""
        with self._lock:
            lineup = self._lineups.get(info.id)
            if lineup and instance in lineup.coming:
                self._count_out(lineup, instance)
            wanted = lineup and instance in lineup.all
        if not wanted:
            instance.close("it did not come to serve", grace=0)
            self._end_log(info.id, instance)
            with suppress(AegisError):
                self._expose(info.id)
            self._engine.ingress.rest()

    def _count_out(self, lineup: _Lineup, instance: Instance) -> None:
        lineup.coming[instance] -= 1
        if not lineup.coming[instance]:
            del lineup.coming[instance]

    def _place(self, app: str, instances: tuple[Instance, ...]) -> None:
        lineup = self._lineups[app]
        lineup.instances = instances
        self._engine.ingress.place(app, lineup.app.name, instances)

    def _expose(self, app: str) -> None:
        """Have the ports be open that those who serve an app, or come to do so, have beside those of HTTP."""
        with self._lock:
            lineup = self._lineups.get(app)
            instances = lineup.all if lineup else ()
        ports = {port.number: port for one in instances for port in one.release.spec.expose if port.protocol == "tcp"}
        if not ports:
            self._engine.ingress.conceal(app)
        elif lineup:
            lineup.addresses = self._engine.ingress.expose(app, tuple(ports.values()))

    def _stop(self, app: str, release: str | None, words: str) -> None:
        with self._lock:
            if (lineup := self._lineups.get(app)) is None:
                return
            gone = [one for one in lineup.all if release in (None, one.release.id)]
            stay = tuple(one for one in lineup.instances if one not in gone)
            if stay != lineup.instances:
                self._placements.put(app, tuple(one.release.id for one in stay))
                self._place(app, stay)
            for one in gone:
                lineup.coming.pop(one, None)
            gone += [one for one in lineup.leaving if release in (None, one.release.id)]
        self._expose(app)
        self._at_once(partial(one.close, words) for one in gone)
        for one in gone:
            self._end_log(app, one)

    def _retire(self, lineup: _Lineup, instance: Instance) -> None:
        instance.drain(_DRAIN)
        instance.close("another release, or a newer boot, has taken its place")
        with self._lock:
            lineup.leaving.discard(instance)
        self._end_log(lineup.app.id, instance)

    def _end_log(self, app: str, instance: Instance) -> None:
        """Let who follows it come to its end, unless another one writes on."""
        with self._lock:
            lineup = self._lineups.get(app)
            if not lineup or not lineup.serves(instance.release.id):
                self._logs.end(instance.id)

    def _info(self, app: str, instance: Instance) -> InstanceInfo:
        lineup = self._lineups.get(app)
        name, addresses = (lineup.app.name, lineup.addresses) if lineup else ("", {})
        ports = instance.release.spec.expose
        numbers = {str(port.number) for port in ports if port.protocol == "tcp"}
        return InstanceInfo(
            id=instance.id,
            app=app,
            name=name,
            release=instance.release.id,
            label=instance.release.label,
            state=instance.state,
            since=instance.since,
            reason=instance.reason,
            url=self._engine.ingress.address(name) if any(port.protocol == "http" for port in ports) else "",
            addresses={port: where for port, where in addresses.items() if port.partition("/")[0] in numbers},
            sandbox=instance.sandbox,
        )

    def _at_once(self, calls: Iterable[Callable[[], None]]) -> None:
        for thread in [self._go(call) for call in calls]:
            if thread:
                thread.join(_CLOSE)

    def _go(self, call: Callable[[], None]) -> threading.Thread | None:
        """Have *call* called in a thread of its own, or, if none is to be had, now."""

        def run() -> None:
            try:
                call()
            finally:
                self._aside.discard(thread)

        thread = threading.Thread(target=run, name="aegis-serving", daemon=True)
        self._aside.add(thread)
        try:
            thread.start()
        except RuntimeError:
            run()
            return None
        return thread


def _not_served(info: AppInfo, release: str | None) -> NotServed:
    what = f"release {release} of app {info.name}" if release else f"the app {info.name}"
    return NotServed(f"{what} is not served", hint=f"`aegis app serve {info.name}`")


def _close(serving: weakref.ref[Serving], process: int) -> None:
    """At the interpreter's end, which a forked child's is not."""
    known = serving()
    if known and os.getpid() == process:
        known.close()
