"""A client's connection: one request after the other, each to where the policies say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

import attrs

from aegis_sdk.routing import answers
from aegis_sdk.routing.admission import Admission
from aegis_sdk.routing.base import Apps, Backends, Decision, RoutingPolicy, Serve, ServedInstance
from aegis_sdk.routing.exchange import Exchange
from aegis_sdk.routing.framing import EMPTY, Framing, of_request
from aegis_sdk.routing.heads import RequestHead
from aegis_sdk.routing.limits import Limits
from aegis_sdk.routing.reading import read_request
from aegis_sdk.routing.refusals import Refuse, Refused
from aegis_sdk.routing.rewriting import Origin
from aegis_sdk.routing.stream import Gone, Silent, Stream
from aegis_sdk.routing.upstreams import Target, Upstreams

#: How long a client that still sends is listened to when it has got its last answer: closing at once would have the
#: kernel tell it of an error, and it might not read the answer.
_LINGER = 2.0


@attrs.frozen(kw_only=True)
class Rules:
    """What all connections of a router share."""

    backends: Backends
    policies: Sequence[RoutingPolicy]
    admission: Admission
    limits: Limits
    upstreams: Upstreams


class Connection:
    """An HTTP client; *serve* is its story, a task of the router's loop."""

    def __init__(self, client: Stream, *, address: str, rules: Rules, full: Refuse | None = None) -> None:
        self.client = client
        self._full = full  # why it is not served, if there are too many
        self._rules = rules
        self._origin = Origin(client=address, here=f"localhost:{rules.admission.port}")
        #: Whether it is between two requests, so that closing it takes nothing away.
        self.idle = True
        self._exchange: Exchange | None = None  # the one under way

    async def serve(self) -> None:
        """Answer requests until the client has no more, goes, or does what it must not."""
        try:
            while await self._one():
                self.idle = True
            await self._linger()
        except (Gone, Silent, asyncio.CancelledError):
            pass  # there is nobody to tell
        finally:
            self.client.close()

    def check(self, now: float) -> None:
        """End what has waited for too long; to be called now and then."""
        client = self.client
        client.expire(now)
        if self._exchange:
            self._exchange.check(now)
        # Nothing tells a client that has closed its connection from one that has only said its last, until it is sent
        # something: so for as long as nothing is, it is believed to be there for a while only.
        if (
            client.ended
            and client.on_lost
            and not self.idle
            and now - client.last_heard > self._rules.limits.half_closed
        ):
            client.on_lost()

    async def _one(self) -> bool:
        """Answer the next request; whether there can be another."""
        head, keep, bare = None, False, False
        try:
            head = await read_request(self.client, self._rules.limits)
            if head is None:
                return False
            self.idle = False
            framing = of_request(head)
            keep, bare = _keeps(head), framing is EMPTY
            return await self._answer(head, framing, keep=keep)
        except Refused as refused:
            # What is left of a body would be taken for the next request.
            return await self._refuse(refused.refusal, head, keep=keep and bare)
        except (Gone, Silent):
            raise
        except Exception as error:  # noqa: BLE001  # a fault of ours, or of the engine's, costs one client's connection
            return await self._refuse(Refuse(500, f"the router failed: {error!r:.500}"), head, keep=False)

    async def _answer(self, head: RequestHead, framing: Framing, *, keep: bool) -> bool:
        rules = self._rules
        if refuse := self._full or rules.admission.refusal(head) or _unexpected(head):
            return await self._refuse(refuse, head, keep=keep and framing is EMPTY and not self._full)
        apps = rules.backends.snapshot()
        decision = _decide(head, apps, rules.policies)
        if isinstance(decision, Serve):
            self._exchange = self._exchanging(head, framing, decision, apps, keep=keep)
            return await self._exchange.run()
        keep = keep and framing is EMPTY
        if isinstance(decision, Refuse):
            return await self._refuse(decision, head, keep=keep)
        return await self._send(answers.redirect(decision, head, keep=keep), keep=keep)

    def _exchanging(self, head: RequestHead, framing: Framing, serve: Serve, apps: Apps, *, keep: bool) -> Exchange:
        return Exchange(
            client=self.client,
            head=head,
            framing=framing,
            serve=serve,
            target=Target(_instance(serve, apps).id, serve.port),
            origin=self._origin,
            upstreams=self._rules.upstreams,
            keep=keep,
        )

    async def _refuse(self, refuse: Refuse, head: RequestHead | None, *, keep: bool) -> bool:
        return await self._send(answers.refusal(refuse, head, keep=keep), keep=keep)

    async def _send(self, answer: bytes, *, keep: bool) -> bool:
        self.client.write(answer)
        await self.client.drain(within=self._rules.limits.unread)
        return keep

    async def _linger(self) -> None:
        client = self.client
        await client.drain(within=self._rules.limits.unread, below=1)
        client.finish()
        due = monotonic() + _LINGER
        with suppress(Silent):
            while monotonic() < due and await client.more(by=due):
                client.take()


def _decide(head: RequestHead, apps: Apps, policies: Sequence[RoutingPolicy]) -> Decision:
    decision: Decision = Refuse(404, "no routing policy knows where this goes")
    for policy in policies:
        decision = policy.route(head, apps, decision)
    return decision


def _instance(serve: Serve, apps: Apps) -> ServedInstance:
    app = apps.get(serve.app)
    if app is None:
        raise Refused(404, f"there is no app {serve.app[:80]!r}")
    for instance in app.instances:
        if serve.release in (None, instance.release):
            if serve.port not in instance.ports:
                raise Refused(404, f"the release {instance.release} of {app.name} exposes no port {serve.port}")
            return instance
    what = f"its release {serve.release}" if serve.release else "it"
    raise Refused(503, f"the app {app.name} is there, but {what} is not served")


def _unexpected(head: RequestHead) -> Refuse | None:
    if "expect" not in head.fields.names or head.minor == 0:
        return None
    expected = head.header("expect") or ""
    if expected.lower() == "100-continue":
        return None
    return Refuse(417, f"nothing here meets the expectation {expected[:80]!r}")


def _keeps(head: RequestHead) -> bool:
    if "connection" not in head.fields.names:
        return head.minor == 1
    words = head.fields.words("connection")
    return "close" not in words if head.minor else "keep-alive" in words
