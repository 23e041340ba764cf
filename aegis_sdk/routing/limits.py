"""What one client can cost: sizes in bytes, times in seconds."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Limits:
    """The router's limits."""

    #: Connections of clients at once: HTTP, and of every TCP port together. Each takes up to three descriptors.
    connections: int = 512
    #: A head altogether, its fields, and its target.
    head: int = 32 << 10
    fields: int = 100
    target: int = 8 << 10
    #: A request's body; None for any.
    body: int | None = None
    #: From a connection, or the end of the answer before, to the first byte of a request; from there to its whole head.
    first_byte: float = 60.0
    whole_head: float = 10.0
    #: Between two pieces of a request's body, and until a client takes what it is sent.
    body_silence: float = 60.0
    unread: float = 300.0
    #: How long a client that will send no more may be sent nothing until it is taken to be gone.
    half_closed: float = 30.0
    #: Without a byte either way, after which a connection of a TCP port may have to make room for another client.
    silence: float = 60.0
    #: For a connection to an app, and from the request to the head of the answer.
    connect: float = 10.0
    answer: float = 600.0
    #: How long a connection to an app is kept for the next request; shorter than what servers do on their side.
    kept: float = 4.0
    #: Connections kept for each port of an instance, and connections to each that are being made at once.
    pooled: int = 256
    dials: int = 8
