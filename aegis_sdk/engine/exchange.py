"""One request to the daemon, and its answer as values.

Each has a connection of its own: over a unix socket that costs nothing, no thread waits for another's, a forked child
has none of ours, and no request meets one that the daemon closes this moment. Python's own http.client does it in a
third of the time that httpx takes to be imported, which a command line pays each time.
"""

from __future__ import annotations

import io
import select
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode

import attrs

from aegis_sdk import sockets, wire
from aegis_sdk.engine.base import Report
from aegis_sdk.errors import AegisError, DaemonUnavailable, InvalidValue
from aegis_sdk.guest.channel import LONGEST_WAIT
from aegis_sdk.model import Progress

T = TypeVar("T")
#: Seconds that the daemon has for what it does at once, on a host that is busy.
ANSWER = 30.0
#: Seconds that the daemon is asked to wait for something at most; then it is asked again.
LONGEST_QUESTION = 20.0
#: Seconds after which a daemon that takes its time is asked whether it still answers at all.
_SILENCE = 5.0
#: Seconds that it then has for that.
_ALIVE = 10.0
_UP = "start it with `aegis up`; `aegis status` says what is there"
_HEADERS = {"Content-Type": "application/json", "Connection": "close"}
_Query = Mapping[str, str | float | bool | None]


class NotListening(DaemonUnavailable):
    """There is no daemon."""


class BrokenOff(DaemonUnavailable):
    """The daemon has ended, or hung up, in the midst of an answer."""


@attrs.frozen
class Exchange:
    """Requests to the daemon that listens at *path*; DaemonUnavailable if none answers, or nothing that we know."""

    path: Path

    def ask(
        self,
        method: str,
        *place: str,
        shape: type[T],
        query: _Query | None = None,
        body: object = None,
        limit: float | None = ANSWER,
    ) -> T:
        """The value of type *shape* that the daemon answers, within *limit* seconds.

        Without one it may take as long as it wants, while it answers others. Its errors are raised as what they are.
        """
        with self._answer(method, place, query, body, limit=limit) as answer:
            data = answer.read()
        return self.understood(self.parsed(data), shape)

    def lines(
        self, method: str, *place: str, query: _Query | None = None, body: object = None
    ) -> Generator[dict[str, Any], None, None]:
        """What the daemon answers line by line, each an object, for as long as it wants; BrokenOff if it breaks off."""
        with self._answer(method, place, query, body, limit=None, accept="application/x-ndjson") as answer:
            while line := answer.readline():
                yield self.understood(self.parsed(line), dict[str, Any])

    def long(self, *place: str, shape: type[T], report: Report, body: object = None) -> T:
        """The result of what is asked for by POST and may take long: of its progress *report* hears."""
        with closing(self.lines("POST", *place, body=body)) as lines:
            for line in lines:
                if "progress" in line:
                    report(self.understood(line["progress"], Progress))
                elif "error" in line:
                    raise self.error(line["error"])
                else:
                    return self.understood(line.get("result"), shape)
        raise DaemonUnavailable("the daemon has ended its answer without a result")

    def understood(self, data: object, shape: type[T]) -> T:
        """The value of type *shape* that *data* says; if it says none, this is a daemon that we do not understand."""
        try:
            return wire.from_json(data, shape)
        except InvalidValue as error:
            raise self._strange(error.message) from error

    def parsed(self, text: bytes) -> Any:
        """What *text* says as JSON."""
        try:
            return wire.parse(text)
        except InvalidValue as error:
            raise self._strange(error.message) from error

    def error(self, data: object) -> AegisError:
        """The error that *data* says."""
        try:
            return wire.error_from_json(data)
        except InvalidValue as error:
            return self._strange(error.message)

    def _strange(self, reason: str) -> DaemonUnavailable:
        return DaemonUnavailable(
            f"the daemon at {self.path} has answered what this Aegis does not understand: {reason}",
            hint="if it is of another version, restart it: `aegis down`, then `aegis up`",
        )

    def tell(
        self, method: str, *place: str, query: _Query | None = None, body: object = None, limit: float | None = ANSWER
    ) -> None:
        """Have the daemon do something that has no answer but that it is done, as ``ask``."""
        with self._answer(method, place, query, body, limit=limit) as answer:
            answer.read()

    @contextmanager
    def _answer(
        self,
        method: str,
        place: tuple[str, ...],
        query: _Query | None,
        body: object,
        *,
        limit: float | None,
        accept: str = "application/json",
    ) -> Iterator[HTTPResponse]:
        target = "/v1/" + "/".join(quote(part, safe="") for part in place)
        if words := {name: _word(value) for name, value in (query or {}).items() if value is not None}:
            target += "?" + urlencode(words)
        data = None if body is None else wire.dumps(body)
        connection = _Connection(self.path, self._patience(limit))
        try:
            with self._in_words():
                connection.request(method, target, body=data, headers={"Accept": accept, **_HEADERS})
                answer = connection.getresponse()
                if answer.status >= 400:
                    self._refuse(answer)
                yield answer
        finally:
            connection.hang_up()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except AegisError:
            raise
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotListening(f"no daemon listens at {self.path}", hint=_UP) from error
        except (OSError, HTTPException) as error:
            raise BrokenOff(f"the daemon at {self.path} has ended, or hung up: {error}", hint=_UP) from error

    def _patience(self, limit: float | None) -> Callable[[], None]:
        """What is called again and again while nothing comes, and raises when that is no longer worth waiting for."""
        began = looked = time.monotonic()

        def check() -> None:
            nonlocal looked
            now = time.monotonic()
            if limit is not None and now - began > limit:
                raise DaemonUnavailable(
                    f"the daemon at {self.path} does not answer: it has not answered for {limit:g} s",
                    hint="`aegis status` asks once more, `aegis down` ends it",
                )
            if limit is None and now - looked > _SILENCE:
                self.tell("GET", "status", limit=_ALIVE)
                looked = time.monotonic()

        return check

    def _refuse(self, answer: HTTPResponse) -> NoReturn:
        """Raise the error that the daemon answers."""
        said = self.understood(self.parsed(answer.read()), dict[str, Any])
        raise self.error(said.get("error"))


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Connection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        super().__init__("aegisd")
        self._path, self._check = path, check
        self._open = ExitStack()

    def connect(self) -> None:
        connected = self._open.enter_context(sockets.connect(self._path, timeout=ANSWER))
        self.sock = _Patient(connected, self._check)

    def hang_up(self) -> None:
        """Close the socket, which http.client does not: an answer may still be read when it has closed its own end."""
        self._open.close()


class _Patient:
    """What http.client takes for a socket: while nothing comes, *check* is called again and again, and may raise."""

    def __init__(self, connected: socket.socket, check: Callable[[], None]) -> None:
        self._socket, self._check = connected, check

    def sendall(self, data: bytes) -> None:
        self._socket.sendall(data)

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._socket, self._check))

    def close(self) -> None:
        pass  # whoever made the connection hangs up


class _Reader(io.RawIOBase):
    def __init__(self, connected: socket.socket, check: Callable[[], None]) -> None:
        self._socket, self._check = connected, check

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:  # Any: what a buffer is has no type yet
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not poll.poll(LONGEST_WAIT * 1000):
            self._check()
        return self._socket.recv_into(room)
