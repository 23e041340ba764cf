"""From a request to a verb, and from what it gives to an answer."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from aegis_daemon import asked, lines
from aegis_daemon.calls import Call, ClientGone, Daemon
from aegis_daemon.operations import Operation, Pace
from aegis_daemon.refusals import Internal, NoSuchMethod, status_of
from aegis_daemon.threads import Threads
from aegis_sdk import wire
from aegis_sdk.errors import AegisError

_log = logging.getLogger(__name__)
_NDJSON = "application/x-ndjson"


@attrs.frozen
class Endpoint:
    """All that can be asked for at one path."""

    _daemon: Daemon
    _by_method: dict[str, Operation]
    _quick: Threads
    _slow: Threads

    async def answer(self, request: Request) -> Response:
        """The answer to *request*, an error included."""
        try:
            operation = self._by_method.get("GET" if request.method == "HEAD" else request.method)
            if operation is None:
                raise NoSuchMethod(f"{request.url.path} takes {', '.join(self._by_method)}, not {request.method}")
            return await self._call(request, operation)
        except ClientGone:
            return Response(status_code=499)  # nobody sees it
        except AegisError as error:
            return refusal(error, allow=self._by_method)
        except Exception:  # noqa: BLE001  # a fault of ours: not to be shown, and not to be lost
            _log.exception("%s %s failed", request.method, request.url.path)
            return refusal(fault(), allow=())

    async def _call(self, request: Request, operation: Operation) -> Response:
        verb = await _bound(request, operation)
        gone = threading.Event()
        call = Call(self._daemon, gone)
        if operation.pace is Pace.AT_ONCE:
            return _rendered(operation, await self._quick.run(partial(verb, call)))
        if operation.pace is Pace.LINES:
            opened = await self._slow.run(partial(verb, call))
            return _streamed(lines.of(opened, self._slow))
        if operation.pace is Pace.REPORTS and _NDJSON in request.headers.get("accept", ""):
            return _streamed(lines.reported(verb, call, self._slow))
        async with _watched(request, gone):
            return _rendered(operation, await self._slow.run(partial(verb, call)))


def fault() -> Internal:
    """What a client hears of a fault of ours."""
    return Internal("the daemon failed", hint="its log says more: data/logs/aegisd.log in its home")


def refusal(error: AegisError, *, allow: Any) -> Response:
    """An answer that is *error*; *allow* are the methods that would have been right."""
    status = status_of(error)
    headers = {"allow": ", ".join(allow)} if isinstance(error, NoSuchMethod) else None
    body = wire.dumps({"error": wire.to_json(error)}) + b"\n"
    return Response(body, status_code=status, media_type="application/json", headers=headers)


async def _bound(request: Request, operation: Operation) -> Callable[[Call], Any]:
    """The verb with what *request* says; InvalidValue if it is not what the verb takes."""
    given: dict[str, Any] = dict(request.path_params)
    query = asked.query(request.scope["query_string"], operation.query)
    body = asked.value(await asked.body(request), operation.body)
    given |= {name: value for name, value in (("query", query), ("body", body)) if value is not None}
    return partial(_call, operation.verb, given)


def _call(verb: Callable[..., Any], given: dict[str, Any], call: Call) -> Any:
    return verb(call, **given)


def _rendered(operation: Operation, value: Any) -> Response:
    if operation.answer is None:
        return Response(status_code=operation.status)
    return Response(wire.dumps(value) + b"\n", status_code=operation.status, media_type="application/json")


def _streamed(content: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(content, media_type=_NDJSON)


@asynccontextmanager
async def _watched(request: Request, gone: threading.Event) -> AsyncIterator[None]:
    """While the block lasts, *gone* is set as soon as the client is."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        gone.set()
        raise
    finally:
        watcher.cancel()
