"""The daemon's HTTP side, as an ASGI application."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aegis_daemon import openapi
from aegis_daemon.calls import Daemon
from aegis_daemon.endpoint import Endpoint, fault, refusal
from aegis_daemon.operations import Operation
from aegis_daemon.refusals import NoSuchMethod, NoSuchPath
from aegis_daemon.routes import OPERATIONS
from aegis_daemon.threads import Threads
from aegis_sdk import __version__, wire

_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "QUERY"]
_QUICK = 64


def application(daemon: Daemon, *, slow: Threads) -> Starlette:
    """What answers for *daemon*."""
    quick = Threads(_QUICK)
    routes = [
        Route(path, Endpoint(daemon, methods, quick, slow).answer, methods=_METHODS)
        for path, methods in _by_path(OPERATIONS).items()
    ]
    described = wire.dumps(openapi.describe(OPERATIONS, version=__version__))
    made = Starlette(
        routes=[*routes, Route("/openapi.json", partial(_describe, described))],
        exception_handlers={HTTPException: _refuse, 500: _fail},
    )
    made.router.redirect_slashes = False  # /v1/status/ is an error in words, not an empty answer that leads elsewhere
    return made


def _by_path(operations: Iterable[Operation]) -> dict[str, dict[str, Operation]]:
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = operation
    return paths


async def _describe(described: bytes, _: Request) -> Response:
    return Response(described, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "GET").split(", ")
        return refusal(NoSuchMethod(f"{request.url.path} does not take {request.method}"), allow=allow)
    hint = "GET /openapi.json says what there is"
    return refusal(NoSuchPath(f"there is nothing at {request.url.path}", hint=hint), allow=())


async def _fail(_: Request, __: Exception) -> Response:
    return refusal(fault(), allow=())
