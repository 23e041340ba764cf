"""What goes on in a guest, so that none is put to sleep over its work."""

from __future__ import annotations

import attrs

from aegis_sdk.guest import answers
from aegis_sdk.guest.channel import Channel

_MOST_CPU = 1e15  # milliseconds
_LONGEST_LEASE = 86_401.0


@attrs.frozen
class Activity:
    """What a guest says of itself.

    *cpu* are the seconds of CPU time that its commands have used since its boot, *connections* those to its ports that
    are open, *commands* those that were started from outside and run, the server included; *keepalive* the seconds
    for which it has asked to be kept awake.
    """

    cpu: float
    connections: int
    commands: int
    keepalive: float


def activity(channel: Channel, *, deadline: float) -> Activity:
    """What goes on in the guest now, on a connection that is used for nothing else.

    EOFError if the guest ends, TimeoutError at the deadline (monotonic).
    """
    channel.send_line({"call": "activity"}, deadline=deadline)
    answer = answers.fields(channel.read_line(deadline=deadline), "an answer")
    return Activity(
        cpu=answers.seconds(answer, "cpu_ms", most=_MOST_CPU) / 1000,
        connections=answers.integer(answer, "connections"),
        commands=answers.integer(answer, "commands"),
        keepalive=answers.seconds(answer, "keepalive", most=_LONGEST_LEASE),
    )
