"""Errors as answers: whose fault it is, by HTTP's numbers."""

from __future__ import annotations

from http import HTTPStatus

from aegis_sdk import errors
from aegis_sdk.errors import AegisError

#: The first that an error is one of counts.
_STATUS: tuple[tuple[type[AegisError], int], ...] = (
    (errors.InvalidValue, HTTPStatus.BAD_REQUEST),
    (errors.FileFailed, HTTPStatus.BAD_REQUEST),
    (errors.NotFound, HTTPStatus.NOT_FOUND),
    (errors.ImageNotFound, HTTPStatus.NOT_FOUND),
    (errors.LimitExceeded, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (errors.NameTaken, HTTPStatus.CONFLICT),
    (errors.ImageInUse, HTTPStatus.CONFLICT),
    (errors.PortTaken, HTTPStatus.CONFLICT),
    (errors.NotServed, HTTPStatus.CONFLICT),
    (errors.ServerFailed, HTTPStatus.BAD_GATEWAY),
    (errors.SecretUnreadable, HTTPStatus.CONFLICT),
    (errors.SandboxClosed, HTTPStatus.CONFLICT),
    (errors.GuestDied, HTTPStatus.CONFLICT),
    (errors.InputClosed, HTTPStatus.CONFLICT),
    (errors.ImageInvalid, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.RegistryFailed, HTTPStatus.BAD_GATEWAY),
    (errors.ProtocolViolation, HTTPStatus.BAD_GATEWAY),
    (errors.GuestNotResponding, HTTPStatus.GATEWAY_TIMEOUT),
    (errors.BootTimedOut, HTTPStatus.GATEWAY_TIMEOUT),
    (errors.Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)


class TooLarge(AegisError):
    """A request is larger than any that can be meant."""

    code = "request-too-large"


class NoSuchPath(AegisError):
    """There is nothing at that path."""

    code = "no-such-path"


class NoSuchMethod(AegisError):
    """What is at that path cannot be asked for this."""

    code = "no-such-method"


class Internal(AegisError):
    """A fault of the daemon's own; its log has the rest."""

    code = "internal"


_OF_REQUESTS: dict[type[AegisError], int] = {
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NoSuchPath: HTTPStatus.NOT_FOUND,
    NoSuchMethod: HTTPStatus.METHOD_NOT_ALLOWED,
}


def status_of(error: AegisError) -> int:
    """The status of an answer that is *error*."""
    known = ((kind, status) for kind, status in (*_OF_REQUESTS.items(), *_STATUS) if isinstance(error, kind))
    return next((status for _, status in known), HTTPStatus.INTERNAL_SERVER_ERROR)
