"""Requests and answers between us and one registry: patient, authenticated, and led nowhere they should not go."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TypeVar

import attrs
import httpx

from aegis_sdk.errors import ImageInvalid, RegistryFailed
from aegis_sdk.images.registry import refusals
from aegis_sdk.images.registry.credentials import Credentials
from aegis_sdk.images.registry.reference import Reference
from aegis_sdk.images.registry.refusals import Again, Answer
from aegis_sdk.images.registry.tokens import Keyring, denied
from aegis_sdk.images.registry.transport import FAILURES, Patience
from aegis_sdk.images.registry.trust import is_link_local, is_loopback

USER_AGENT = "aegis-sdk"
# What a digest names is what is stored, not what some server on the way has made of it.
_ALWAYS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
_REDIRECTS = 5
_REFUSAL_MAX = 1 << 16
_TOKEN_MAX = 1 << 18
_LONGEST_PAUSE = 10.0
_TICK = 0.25

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Exchange:
    """What is said to a registry at *base*, on behalf of who wants *reference*; *tick* is called while we wait."""

    transport: httpx.BaseTransport
    base: httpx.URL
    reference: Reference
    keyring: Keyring
    plain_http: frozenset[str]
    patience: Patience
    tick: Callable[[], None]

    def read(self, path: str, headers: Mapping[str, str], *, limit: int, blob: str = "") -> tuple[bytes, httpx.Headers]:
        """The whole of a small answer, and its headers; ImageInvalid if it is larger than *limit*."""

        def once() -> tuple[bytes, httpx.Headers]:
            with closing(self._ask_registry(path, headers, blob)) as response:
                data = self._begin_of(response, limit + 1)
            if len(data) > limit:
                raise ImageInvalid(f"what {self.reference} leads to is larger than {limit >> 20} MiB")
            return data, response.headers

        return self.patiently(once)

    @contextmanager
    def open(self, path: str, headers: Mapping[str, str], *, blob: str) -> Iterator[httpx.Response]:
        """An answer whose body is still to be read."""
        with closing(self.patiently(lambda: self._ask_registry(path, headers, blob))) as response:
            yield response

    def chunks(self, response: httpx.Response) -> Iterator[bytes]:
        """The body as it comes; Again if it breaks off."""
        try:
            yield from response.iter_raw()
        except FAILURES as error:
            raise refusals.of_network(error, _netloc(response.url), self.reference) from error

    def patiently(self, action: Callable[[], T]) -> T:
        """What *action* gives, done again while that is worth it."""
        failures = 0
        while True:
            try:
                return action()
            except Again as again:
                failures += 1
                self.pause(failures, again)

    def pause(self, failures: int, again: Again) -> None:
        """Wait, a little longer for each of *failures* in a row; the error itself when it has been enough."""
        wished = again.after
        if failures >= self.patience.tries or (wished or 0) > self.patience.longest_wait:
            raise again.error from again.__cause__
        backed_off = min(_LONGEST_PAUSE, self.patience.pause * 2 ** (failures - 1)) * random.uniform(0.5, 1.5)  # noqa: S311  # no secret
        until = time.monotonic() + max(wished or 0, backed_off)
        while (left := until - time.monotonic()) > 0:
            self.tick()
            time.sleep(min(left, _TICK))

    def ask(self, realm: str, parameters: Mapping[str, str], credentials: Credentials | None) -> bytes:
        """A token service's answer at *realm*."""
        url = self._realm(realm, credentials)
        if credentials and credentials.identity_token:
            form = {
                **parameters,
                "grant_type": "refresh_token",
                "client_id": USER_AGENT,
                "refresh_token": credentials.identity_token,
            }
            response = self._send(httpx.Request("POST", url, headers=_ALWAYS, data=form))
        else:
            authorization = credentials.basic() if credentials else ""
            response = self._walk(url.copy_merge_params(dict(parameters)), {}, authorization)
        with closing(response):
            if response.status_code != 200:
                raise refusals.to_token(self._refusal(response), self.reference)
            answer = self._begin_of(response, _TOKEN_MAX + 1)
        if len(answer) > _TOKEN_MAX:
            raise RegistryFailed(f"the token that {self.reference.registry} leads to is larger than {_TOKEN_MAX} bytes")
        return answer

    def _ask_registry(self, path: str, headers: Mapping[str, str], blob: str) -> httpx.Response:
        url = self.base.copy_with(path=f"/v2/{self.reference.repository}/{path}")
        sent = self.keyring.header()
        response = self._walk(url, headers, sent)
        if response.status_code == 401 and _origin(response.url) == _origin(url):
            # Only the registry itself may say who is to see a password: not who it redirects to.
            with closing(response):
                offered = response.headers.get_list("www-authenticate")
            response = self._walk(url, headers, self.keyring.renew(sent, offered, self))
        if response.status_code in ((200, 206, 416) if "Range" in headers else (200,)):
            return response
        with closing(response):
            raise refusals.to_image(self._refusal(response), self.reference, blob)

    def _walk(self, url: httpx.URL, headers: Mapping[str, str], authorization: str) -> httpx.Response:
        """The answer at the end of all redirects; *authorization* goes to the origin of *url* alone."""
        origin = _origin(url)
        for _ in range(_REDIRECTS + 1):
            known = authorization and _origin(url) == origin
            own = {"Authorization": authorization} if known else {}
            response = self._send(httpx.Request("GET", url, headers={**_ALWAYS, **headers, **own}))
            if response.status_code not in (301, 302, 303, 307, 308):
                return response
            with closing(response):
                url = self._target(url, response.headers.get("location", ""))
        raise RegistryFailed(f"{self.reference.registry} redirects more than {_REDIRECTS} times")

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self.transport.handle_request(request)
        except FAILURES as error:
            raise refusals.of_network(error, _netloc(request.url), self.reference) from error

    def _target(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            target = url.join(location)
        except (httpx.InvalidURL, ValueError) as error:
            raise RegistryFailed(f"{self.reference.registry} redirects to what is no URL") from error
        return self._permitted(target, secure=url.scheme == "https", what="redirects")

    def _realm(self, realm: str, credentials: Credentials | None) -> httpx.URL:
        registry = self.reference.registry
        try:
            url = httpx.URL(realm)
        except (httpx.InvalidURL, ValueError) as error:
            raise RegistryFailed(f"{registry} names a token service that is no URL") from error
        self._permitted(url, secure=self.base.scheme == "https", what="sends us for a token")
        named = is_loopback(url.host) or {url.host, _netloc(url)} & self.plain_http
        if url.scheme == "http" and credentials and not named:
            raise denied(registry, f"wants a password to be sent in the clear to {_netloc(url)}")
        return url

    def _permitted(self, url: httpx.URL, *, secure: bool, what: str) -> httpx.URL:
        """*url* if a registry may lead there."""
        registry, host = self.reference.registry, url.host
        if url.scheme not in ("http", "https") or not host:
            raise RegistryFailed(f"{registry} {what} to what is neither http nor https")
        if secure and url.scheme != "https":
            raise RegistryFailed(f"{registry} {what} from https to plain http, at {_netloc(url)}")
        inside = is_link_local(host) or (is_loopback(host) and not is_loopback(self.base.host))
        if inside and host != self.base.host:
            raise RegistryFailed(f"{registry} {what} into this machine or its nearest network, at {_netloc(url)}")
        return url

    def _refusal(self, response: httpx.Response) -> Answer:
        try:
            body = self._begin_of(response, _REFUSAL_MAX)
        except (Again, RegistryFailed):
            body = b""  # the status says enough
        return Answer(status=response.status_code, headers=response.headers, body=body)

    def _begin_of(self, response: httpx.Response, limit: int) -> bytes:
        data, until = bytearray(), time.monotonic() + self.patience.whole
        for chunk in self.chunks(response):
            if time.monotonic() > until:
                # Not worth another try: it would take as long.
                raise RegistryFailed(f"{_netloc(response.url)} takes too long for a small answer")
            data += chunk
            if len(data) >= limit:
                break
        return bytes(data[:limit])


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # httpx leaves out a scheme's own port


def _netloc(url: httpx.URL) -> str:
    return url.netloc.decode("ascii", "replace")
