"""The ports of a guest: connections to what listens there on its own loopback, and when it does so at last."""

from __future__ import annotations

import ipaddress
import select
import socket
import time

import attrs

from aegis_sdk.errors import ProtocolViolation, ServerFailed
from aegis_sdk.guest import answers
from aegis_sdk.guest.channel import Channel
from aegis_sdk.model import Exit, signal_name

_LONGEST_LINE = 4096
_MOST_LISTENERS = 64
#: Seconds that the guest may take for its answer beyond those that it was given to wait.
_PATIENCE = 30.0


@attrs.frozen
class Listener:
    """An address and port of a guest that take connections; *own*: of the processes that were asked for."""

    address: str
    port: int
    own: bool = True

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def connect(machine: socket.socket, port: int, *, timeout: float) -> socket.socket:
    """Make *machine*, a new connection to a harness, one to *port* of its guest: bytes both ways, with half-close.

    It is *machine* that is returned, which is to be closed if this fails. ConnectionRefusedError if nothing listens
    there on 127.0.0.1 or [::1], TimeoutError after *timeout* seconds, another OSError if the guest has ended or cannot.
    """
    deadline = time.monotonic() + timeout
    channel = Channel(machine)
    channel.send_line({"call": "connect", "port": port}, deadline=deadline)
    answer = answers.parsed(_line(machine, channel, deadline), "an answer")
    if answer.get("connected") is True:
        return machine
    if answer.get("refused") is True:
        raise ConnectionRefusedError(f"nothing listens on port {port} in the guest")
    raise OSError(f"the guest cannot connect to its port {port}: {answers.text(answer, 'error')}")


def _line(machine: socket.socket, channel: Channel, deadline: float) -> bytes:
    """The first line, and nothing of what comes after it: that is the server's."""
    line = b""
    while not line.endswith(b"\n"):
        if not channel.wait(select.POLLIN, deadline=deadline):
            raise TimeoutError("the guest has not answered in time")
        seen = machine.recv(_LONGEST_LINE, socket.MSG_PEEK)
        if not seen:
            raise ConnectionAbortedError("the guest has ended")
        line += machine.recv(seen.find(b"\n") + 1 or len(seen))
        if len(line) > _LONGEST_LINE:
            raise ProtocolViolation("the guest answers with a line that has no end")
    return line


def ready(channel: Channel, identity: str, port: int, *, interval: float, timeout: float) -> float:
    """Wait until the process *identity* takes connections on *port*, which is tried every *interval* seconds.

    How many seconds that took. ServerFailed says in words why it did not happen within *timeout* seconds: the process
    could not be started or has exited, which is told at once, listens elsewhere, cannot be reached, or listens nowhere.
    EOFError if the guest ends, TimeoutError if it does not answer. The connection is used for nothing else, and hanging
    up ends the wait. The process may be on its way to be started.
    """
    begin = time.monotonic()
    request = {"call": "ready", "id": identity, "port": port, "interval": interval, "timeout": timeout}
    channel.send_line(request, deadline=begin + _PATIENCE)
    answer = answers.fields(channel.read_line(deadline=begin + timeout + _PATIENCE), "an answer")
    if answer.get("event") == "serverReady":
        return answers.seconds(answer, "seconds")
    if answer.get("event") != "serverFailed":
        raise ProtocolViolation(f"the guest cannot tell whether a server is ready: {answers.text(answer, 'error')}")
    match answer.get("reason"):
        case "failed":
            raise ServerFailed(f"the server could not be started: {answers.text(answer, 'message')}")
        case "exited":
            raise ServerFailed(f"the server {_ended(answers.ending(answer))} before it was ready")
    raise _unready(_listening(answer), port, timeout)


def _ended(end: Exit) -> str:
    if end.out_of_memory:
        return "ran out of memory, and was killed,"
    if end.signal is not None:
        return f"was killed by {signal_name(end.signal)}"
    return f"exited with code {end.code}"


def _unready(listening: list[Listener], port: int, timeout: float) -> ServerFailed:
    own = [listener for listener in listening if listener.own]
    if there := [listener for listener in own if listener.port == port]:
        return _unreachable(there)
    late = f"within {timeout:g} s"
    if own:
        ports = " and ".join(dict.fromkeys(str(listener.port) for listener in sorted(own, key=_by_port)))
        return ServerFailed(
            f"the server has not opened port {port} {late}: it listens on port {ports} instead",
            hint=f"expose port {own[0].port}, or have the server listen on {port}",
        )
    others = [str(listener) for listener in listening]
    said = f" (what listens in the guest is not the server's: {', '.join(others[:8])})" if others else ""
    return ServerFailed(f"the server has not opened port {port} {late}, nor any other{said}")


def _by_port(listener: Listener) -> int:
    return listener.port


def _unreachable(there: list[Listener]) -> ServerFailed:
    places = " and ".join(map(str, there))
    if any(_reachable(listener.address) for listener in there):
        return ServerFailed(f"the server listens on {places}, but takes no connections there")
    return ServerFailed(
        f"the server listens on {places}, where it cannot be reached",
        hint="have it listen on 127.0.0.1, on [::1], or on all addresses",
    )


def _reachable(address: str) -> bool:
    return address in ("127.0.0.1", "::1") or ipaddress.ip_address(address).is_unspecified


def _listening(answer: dict[str, object]) -> list[Listener]:
    listed = answer.get("listening")
    if not isinstance(listed, list) or len(listed) > _MOST_LISTENERS:
        raise ProtocolViolation(f"the guest sent {str(listed)[:80]!r} as what listens in it")
    return [_listener(answers.fields(words, "a listener")) for words in listed]


def _listener(words: dict[str, object]) -> Listener:
    port = answers.integer(words, "port")
    try:
        address = ipaddress.ip_address(answers.text(words, "address"))
    except ValueError as error:
        raise ProtocolViolation(f"the guest sent {str(words)[:80]!r} as a listener") from error
    return Listener(str(address), port, words.get("own") is True)
