"""What a registry's refusals and the network's failures mean, in words for who wanted an image."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime

import attrs
import httpcore

from aegis_sdk.errors import AegisError, ImageNotFound, RegistryFailed
from aegis_sdk.images.registry.reference import DOCKER_HUB, Reference
from aegis_sdk.images.registry.tokens import denied
from aegis_sdk.images.registry.transport import ProxyFailed
from aegis_sdk.model import printable

_SAID_MAX = 300
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNKNOWN = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN"})
_PROXIES = "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; hosts that need no proxy are listed in NO_PROXY"
#: How OpenSSL says that what it read was no TLS.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})


class Again(Exception):
    """Worth another try, *after* so many seconds if the registry has said so; *error* if that was the last."""

    def __init__(self, error: AegisError, *, after: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.after = after


@attrs.frozen(kw_only=True)
class Answer:
    """A refusal; *body* is the begin of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)


def to_image(answer: Answer, reference: Reference, blob: str) -> Exception:
    """The error, or the Again, of a registry's *answer*; *blob* is the digest that was asked for, empty if none."""
    codes, said = _said(answer.body)
    registry = reference.registry
    if answer.status in (401, 403):
        return _denied(reference, said)
    if answer.status == 404 or codes & _UNKNOWN:
        if blob:
            return RegistryFailed(f"{registry} does not have {blob}, which the manifest of {reference} names")
        return ImageNotFound(f"{reference} was not found{said}", hint="check the spelling of its name and its tag")
    return _failed(answer, registry, said)


def to_token(answer: Answer, reference: Reference) -> Exception:
    """The error, or the Again, of a token service's *answer*."""
    _, said = _said(answer.body)
    if answer.status in (400, 401, 403, 404):
        return denied(reference.registry, f"gives no token for {reference.repository}{said}")
    return _failed(answer, f"the token service of {reference.registry}", said)


def of_network(error: Exception, host: str, reference: Reference) -> RegistryFailed | Again:
    """The error, or the Again, of a request to *host* for *reference* that the network has failed."""
    if isinstance(error, ProxyFailed):
        return _of_proxy(of_network(error.reason, error.address, reference), host)
    for cause in _causes(error):
        if told := _of_cause(cause, host, reference):
            return told
    if isinstance(error, httpcore.ProxyError):
        return Again(RegistryFailed(f"the proxy has no way to {host}: {_short(str(error))}", hint=_PROXIES))
    if isinstance(error, httpcore.TimeoutException):
        return Again(RegistryFailed(f"{host} has stalled: {_short(str(error)) or 'no answer in time'}"))
    return Again(RegistryFailed(f"the connection to {host} failed: {_short(str(error))}"))


def _of_proxy(told: RegistryFailed | Again, host: str) -> RegistryFailed | Again:
    error = told.error if isinstance(told, Again) else told
    blamed = RegistryFailed(f"the proxy on the way to {host} fails: {error.message}", hint=_PROXIES)
    return Again(blamed) if isinstance(told, Again) else blamed


def _of_cause(cause: BaseException, host: str, reference: Reference) -> RegistryFailed | None:
    """The error, if it is no use to try again."""
    asked = f"{host}, which was to be asked for {reference}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return RegistryFailed(
            f"the certificate of {host} is not trusted: {cause.verify_message}",
            hint=f"put the certificate of its authority into /etc/docker/certs.d/{host}/ca.crt or "
            f"~/.config/containers/certs.d/{host}/ca.crt, or name it in SSL_CERT_FILE",
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return RegistryFailed(
            f"{host} does not speak TLS", hint=f"to use it all the same, in the clear: AEGIS_PLAIN_HTTP={host}"
        )
    if (isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME) or isinstance(cause, UnicodeError):
        return RegistryFailed(f"there is no host {asked}", hint="check the name, and this machine's network")
    if isinstance(cause, ConnectionRefusedError):  # to try again would keep who has mistyped a port waiting
        return RegistryFailed(f"nothing answers at {asked}", hint="check the name and the port; is it running?")
    return None


def _denied(reference: Reference, said: str) -> AegisError:
    if reference.registry == DOCKER_HUB:
        # Docker Hub does not tell strangers what there is.
        return ImageNotFound(
            f"{reference} was not found, or is private{said}",
            hint="check the spelling of its name; if it is private: docker login",
        )
    return denied(reference.registry, f"does not let us read {reference.repository}, if there is such a thing{said}")


def _failed(answer: Answer, who: str, said: str) -> Exception:
    if answer.status not in _BUSY:
        return RegistryFailed(f"{who} answered with HTTP status {answer.status}{said}")
    after = _retry_after(answer.headers.get("retry-after", ""))
    if answer.status == 429:
        wait = f" for {after:.0f} s" if after else ""
        error = RegistryFailed(
            f"{who} wants to be asked less often{wait}{said}", hint="limits are often higher after docker login"
        )
    else:
        error = RegistryFailed(f"{who} is out of order: HTTP status {answer.status}{said}")
    return Again(error, after=after)


def _said(body: bytes) -> tuple[set[str], str]:
    """The codes of an error's JSON, and its message to be put behind ours; empty if it has none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return set(), ""
    if not isinstance(document, dict):
        return set(), ""
    errors = document.get("errors")
    entries = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else [document]
    codes = {code for each in entries if isinstance(code := each.get("code"), str)}
    words = [
        text for each in entries for name in ("message", "details", "error") if isinstance(text := each.get(name), str)
    ]
    return codes, f": {_short('; '.join(words))}" if words else ""


def _short(text: str) -> str:
    line = " ".join(printable(text[: 4 * _SAID_MAX]).split())
    return line if len(line) <= _SAID_MAX else f"{line[:_SAID_MAX]}..."


def _retry_after(value: str) -> float | None:
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
