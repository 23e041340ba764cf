"""One request to an app and its answer: as they come, never held whole, and each end's leaving noticed by the other."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from time import monotonic

import attrs

from aegis_sdk.routing import rewriting
from aegis_sdk.routing.base import Serve
from aegis_sdk.routing.bodies import Body, BrokenBody, chunk, last_chunk, reading
from aegis_sdk.routing.framing import EMPTY, UNTIL_CLOSE, Framing, of_response
from aegis_sdk.routing.heads import RequestHead, ResponseHead
from aegis_sdk.routing.reading import read_response
from aegis_sdk.routing.refusals import Refused, bad_gateway, bad_request
from aegis_sdk.routing.rewriting import Origin
from aegis_sdk.routing.stream import Gone, Silent, Stream
from aegis_sdk.routing.tunnel import tunnel
from aegis_sdk.routing.upstreams import Target, Upstreams

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})


@attrs.define(eq=False)
class Exchange:
    """A request, whose body is still to come from *client*, on its way to *target*."""

    client: Stream
    head: RequestHead
    framing: Framing
    serve: Serve
    target: Target
    origin: Origin
    upstreams: Upstreams
    keep: bool  # whether the client would ask more on its connection
    _backend: Stream | None = None  # once there is a connection to the app
    _upload: asyncio.Task[None] | None = None  # passes the body on, if there is one, beside the answer
    _kept: bool = False  # whether the app's connection has been given away

    async def run(self) -> bool:
        """Whether the client's connection can be used further. Refused if the app does not answer as it has to."""
        awake = self.upstreams.backends.hold(self.target.instance)
        try:
            if not awake:
                await self.upstreams.wake(self.target.instance, wait=self.serve.wait, reload=self.serve.reload)
            backend, response = await self._answered()
            try:
                return await self._pass_on(backend, response)
            finally:
                if not self._kept:
                    backend.close()  # before anything is awaited, which might be cancelled
                if self._upload:
                    await self._end_upload()
        finally:
            self.upstreams.backends.let_go(self.target.instance)

    def check(self, now: float) -> None:
        """End a wait for the app whose time has come; to be called now and then."""
        if self._backend:
            self._backend.expire(now)

    async def _answered(self) -> tuple[Stream, ResponseHead]:
        """As ``_ask``; what an app that was stopped meanwhile does not answer is no fault of the app's."""
        try:
            return await self._ask()
        except Refused as refused:
            if refused.refusal.status != 502 or self._serves():
                raise
            raise Refused(503, f"the app {self.serve.app} was stopped before it had answered") from refused

    def _serves(self) -> bool:
        app = self.upstreams.backends.snapshot().get(self.serve.app)
        return app is not None and any(one.id == self.target.instance for one in app.instances)

    async def _ask(self) -> tuple[Stream, ResponseHead]:
        """A connection to the app, and the head of its answer."""
        repeatable = self.head.method in _REPEATABLE and self.framing is EMPTY
        if (kept := self.upstreams.kept(self.target)) is not None:
            # A server may close a connection that it keeps at any moment, also while a request comes. Who cannot be
            # asked twice is asked on a new one; and the old one is closed, for a server that serves one at a time.
            if repeatable:
                with suppress(Gone):
                    return kept, await self._asked(kept)
            kept.close()
        backend = await self.upstreams.dial(self.target, wait=self.serve.wait)
        try:
            return backend, await self._asked(backend)
        except Gone as gone:
            raise bad_gateway("it closed the connection without an answer") from gone

    async def _asked(self, backend: Stream) -> ResponseHead:
        self._backend = backend
        try:
            self._send(backend)
            return await self._answer(backend)
        except BaseException as error:
            backend.close()
            await self._end_upload()
            if isinstance(error, Gone | Refused) and self._upload and (reason := _failure(self._upload)):
                raise reason from error
            raise

    def _send(self, backend: Stream) -> None:
        head = rewriting.to_backend(self.head, self.framing, prefix=self.serve.prefix, origin=self.origin)
        if self.framing is EMPTY:
            backend.write(head)
            return
        if self.upstreams.limits.body is not None and (self.framing.length or 0) > self.upstreams.limits.body:
            raise _too_much(self.upstreams.limits.body)
        backend.write(head)
        self._upload = asyncio.ensure_future(self._pass_body(backend))
        self._upload.add_done_callback(partial(_uploaded, backend))

    async def _answer(self, backend: Stream) -> ResponseHead:
        due = monotonic() + self.upstreams.limits.answer
        while True:
            response = await read_response(backend, self.upstreams.limits, due=due)
            if response.status >= 200 or response.status == 101:
                return response
            if self.head.minor:
                self.client.write(rewriting.interim(response))
                await self._drain()

    async def _pass_body(self, backend: Stream) -> None:
        body, passed = reading(self.framing), 0
        while not body.done:
            contents = await self._piece(body)
            passed += len(contents)
            if self.upstreams.limits.body is not None and passed > self.upstreams.limits.body:
                raise _too_much(self.upstreams.limits.body)
            backend.write(chunk(contents) if self.framing.chunked else contents)
            await self._drain_backend(backend)
        self.client.give_back(body.rest)
        if self.framing.chunked:
            backend.write(last_chunk(rewriting.trailers(body.trailers)))

    async def _drain_backend(self, backend: Stream) -> None:
        try:
            await backend.drain(within=self.upstreams.limits.unread)
        except Gone:
            pass  # an app that wants no more of it may answer all the same
        except Silent as silent:
            raise Refused(
                504, f"the app has read nothing of the body for {self.upstreams.limits.unread:g} s"
            ) from silent

    async def _piece(self, body: Body) -> bytes:
        try:
            due = monotonic() + self.upstreams.limits.body_silence
            if not self.client.waiting and not await self.client.more(by=due):
                body.end()
            return body.feed(self.client.take())
        except Silent as silent:
            raise Refused(408, f"nothing of the body came for {self.upstreams.limits.body_silence:g} s") from silent
        except BrokenBody as broken:
            raise bad_request(str(broken)) from broken

    async def _pass_on(self, backend: Stream, response: ResponseHead) -> bool:
        if response.status == 101:
            return await self._switch(backend, response)
        framing = of_response(response, method=self.head.method)
        sent = rewriting.sent_as(framing, minor=self.head.minor)
        body = reading(framing)
        keep = self.keep and sent is not UNTIL_CLOSE and not self._uploading()
        out = rewriting.to_client(response, sent, minor=self.head.minor, keep=keep)
        await self._pass_answer(backend, body, out, chunked=sent.chunked)
        if self._uploading():
            return False
        over = framing is UNTIL_CLOSE or body.rest or backend.waiting or backend.ended
        if not over and _keeps(response):
            self._kept = True
            self.upstreams.keep(self.target, backend)
        return keep

    async def _pass_answer(self, backend: Stream, body: Body, out: bytes, *, chunked: bool) -> None:
        """Send *out*, and then the body; what is there already goes with it, what comes later as it comes."""
        sent = False
        while not body.done:
            if not backend.waiting:
                self.client.write(out)
                out, sent = b"", True
                if self.client.congested:
                    await self._drain()
                if not backend.waiting and not await backend.more():
                    _end(body, backend)
                    continue
            try:
                contents = body.feed(backend.take())
            except BrokenBody as broken:
                if sent:
                    raise Gone(f"the app's answer is broken: {broken}") from broken
                raise bad_gateway(str(broken)) from broken
            out += chunk(contents) if chunked else contents
        if chunked:
            out += last_chunk(rewriting.trailers(body.trailers))
        self.client.write(out)
        if self.client.congested:
            await self._drain()

    async def _switch(self, backend: Stream, response: ResponseHead) -> bool:
        if rewriting.upgrade(self.head, self.framing) is None:
            raise bad_gateway("it switches protocols, and was not asked to")
        self.client.write(rewriting.to_client(response, self.framing, minor=1, keep=False))
        await tunnel(self.client, backend)
        return False

    async def _drain(self) -> None:
        await self.client.drain(within=self.upstreams.limits.unread)

    def _uploading(self) -> bool:
        return self._upload is not None and not self._upload.done()

    async def _end_upload(self) -> None:
        if self._upload and not self._upload.done():
            self._upload.cancel()
            await asyncio.wait([self._upload])


def _uploaded(backend: Stream, upload: asyncio.Task[None]) -> None:
    if _failure(upload):
        backend.close()  # which ends the wait for its answer


def _failure(upload: asyncio.Task[None]) -> BaseException | None:
    return upload.exception() if upload.done() and not upload.cancelled() else None


def _end(body: Body, backend: Stream) -> None:
    try:
        body.end()
    except BrokenBody as broken:
        raise Gone(f"the app's answer is broken: {broken}") from broken
    if backend.lost:
        raise Gone("the app's connection broke within its answer")


def _keeps(response: ResponseHead) -> bool:
    if "connection" not in response.fields.names:
        return response.minor == 1
    words = response.fields.words("connection")
    return "close" not in words if response.minor else "keep-alive" in words


def _too_much(limit: int) -> Refused:
    return Refused(413, f"the body is larger than {limit} bytes")
