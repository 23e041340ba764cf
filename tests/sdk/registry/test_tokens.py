"""Who a registry takes us for: challenges, tokens, and who gets to see a password."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk.errors import ImageNotFound, RegistryDenied, RegistryFailed
from aegis_sdk.images.manifest import OCI_MANIFEST
from aegis_sdk.images.registry.reference import parse
from aegis_sdk.images.registry.refusals import Answer, to_image
from aegis_sdk.images.registry.tokens import Challenge, Keyring, challenges
from tests.sdk.registry.hostile_registry import (
    IMAGE,
    MANIFEST,
    SECRET,
    Conversation,
    HostileRegistry,
    basic,
    docker_login,
    ranged,
    sends,
    status,
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Bearer realm="https://a/b",service="s"'], [("bearer", {"realm": "https://a/b", "service": "s"})]),
        (['BEARER Realm = "x" , SCOPE=y'], [("bearer", {"realm": "x", "scope": "y"})]),
        (['Basic realm="a, b=c", Bearer realm="d"'], [("basic", {"realm": "a, b=c"}), ("bearer", {"realm": "d"})]),
        (['Basic realm="a"', "Bearer realm=b"], [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        (['Bearer realm="a\\"b\\\\c"'], [("bearer", {"realm": 'a"b\\c'})]),
        (["Basic"], [("basic", {})]),
        (["Negotiate, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (['Bearer realm="a",realm="b"'], [("bearer", {"realm": "a"})]),
        (['Bearer realm="unfinished'], [("bearer", {})]),
        (["", ",,,", "="], []),
        ([], []),
    ],
)
def test_challenges(headers, expected):
    """Several challenges, in one header or in many, quoted or not, are told apart."""
    assert list(challenges(headers)) == [Challenge(scheme, parameters) for scheme, parameters in expected]


def test_endless_offers():
    """Of thousands of ways to authenticate, some are told."""

    class Nobody:
        def ask(self, realm, parameters, credentials):
            raise AssertionError(realm, parameters, credentials)

    with pytest.raises(RegistryFailed, match=r"offered: a0, a1, a2, a3, a4\)"):
        Keyring("r.example", "a/b", lambda: None).renew("", [",".join(f"a{n}" for n in range(9000))], Nobody())


@given(st.text(max_size=200) | st.text('Bearer realm="\\,= ', max_size=200))
def test_any_header_ends(header):
    """Whatever the header says, it is read to an end."""
    assert len(list(challenges([header]))) <= len(header)


@pytest.fixture
def registry(registry: HostileRegistry) -> HostileRegistry:
    """A registry that lets in who shows the token ``good``, which its token service gives."""
    _guard(registry, "good")
    registry.on("/token", sends(b'{"token": "good"}'))
    return registry


@pytest.fixture
def logged_in(registry: HostileRegistry, tmp_path: Path) -> None:
    """The user of a test has a password for the registry."""
    docker_login(tmp_path, registry.host)


def _challenge(registry: HostileRegistry, **parameters: str) -> str:
    said = {
        "realm": f"http://{registry.host}/token",
        "service": "reg",
        "scope": "repository:a/b:pull,push",
        **parameters,
    }
    return "Bearer " + ",".join(f'{name}="{value}"' for name, value in said.items())


def _guard(registry: HostileRegistry, token: str, **parameters: str) -> None:
    def guarded(inner: Callable[[Conversation], None]) -> Callable[[Conversation], None]:
        def answer(talk: Conversation) -> None:
            if talk.asked.headers.get("authorization") == f"Bearer {token}":
                inner(talk)
            else:
                talk.send(401, WWW_Authenticate=_challenge(registry, **parameters))

        return answer

    registry.on(MANIFEST, guarded(sends(IMAGE.manifest, Content_Type=OCI_MANIFEST)))
    for digest, data in IMAGE.blobs.items():
        registry.on(f"/v2/a/b/blobs/{digest}", guarded(ranged(data)))


def test_an_anonymous_token(registry, pull):
    """A token is asked for once, for reading this repository alone, and then used for all of it."""
    pull()
    (asked,) = registry.requests("/token")
    assert parse_qs(urlsplit(asked.path).query) == {"service": ["reg"], "scope": ["repository:a/b:pull"]}
    assert "authorization" not in asked.headers
    assert len(registry.requests(MANIFEST)) == 2


def test_a_realm_with_a_query_and_quotes(registry, pull):
    """A realm may have a query of its own, and quotes in it."""
    _guard(registry, "good", realm=f'http://{registry.host}/token?a=\\"1\\"')
    pull()
    asked = parse_qs(urlsplit(registry.requests("/token")[0].path).query)
    assert (asked["a"], asked["service"]) == (['"1"'], ["reg"])


def test_a_password_goes_to_the_token_service_only(registry, pull, tmp_path, caplog):
    """The password is shown to the token service, the token to the registry, and neither to a log."""
    caplog.set_level(logging.DEBUG)
    docker_login(tmp_path, registry.host)
    pull()
    assert registry.requests("/token")[0].headers["authorization"] == f"Basic {basic()}"
    others = [asked for asked in registry.asked if not asked.path.startswith("/token")]
    assert {asked.headers.get("authorization") for asked in others} == {None, "Bearer good"}
    assert SECRET not in caplog.text
    assert basic() not in caplog.text


def test_an_identity_token(registry, pull, tmp_path):
    """An identity token is exchanged for a token by POST, as OAuth 2 has it."""
    registry.on("/token", sends(b'{"access_token": "good"}'))
    docker_login(tmp_path, registry.host, identitytoken=SECRET)
    pull()
    (asked,) = registry.requests("/token")
    assert asked.method == "POST"
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["refresh_token"],
        "client_id": ["aegis-sdk"],
        "refresh_token": [SECRET],
        "service": ["reg"],
        "scope": ["repository:a/b:pull"],
    }


def test_a_token_that_has_expired(registry, find):
    """A token that is no longer taken is replaced once, also in the middle of a pull."""
    found = find()
    _guard(registry, "new")
    registry.on("/token", sends(b'{"token": "new"}'))
    found.layers[0].fetch(lambda _count: None)
    assert len(registry.requests("/token")) == 2


def test_tokens_are_shared_by_threads():
    """Of several threads whose token has expired, one asks for another."""
    asked = list[tuple[str, object, object]]()

    class Slow:
        def ask(self, realm: str, parameters: object, credentials: object) -> bytes:
            asked.append((realm, parameters, credentials))
            time.sleep(0.1)
            return b'{"token": "new"}'

    keyring, got = Keyring("q.io", "a/b", lambda: None), list[str]()

    def renew() -> None:
        got.append(keyring.renew("", ['Bearer realm="https://q.io/token"'], Slow()))

    threads = [threading.Thread(target=renew) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == [("https://q.io/token", {"scope": "repository:a/b:pull"}, None)]
    assert got == ["Bearer new"] * 4


def test_a_token_that_is_never_taken(registry, pull):
    """A registry that refuses its own token is not asked forever."""
    registry.on("/token", sends(b'{"token": "other"}'))
    with pytest.raises(RegistryDenied, match="does not let us read a/b") as caught:
        pull()
    assert caught.value.hint == f"log in with: docker login {registry.host}"
    assert len(registry.requests(MANIFEST)) == 2


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(401, b'{"details": "incorrect username or password"}'), RegistryDenied, "incorrect username"),
        (status(403), RegistryDenied, "gives no token for a/b"),
        (status(500), RegistryFailed, "token service of .* is out of order"),
        (sends(b""), RegistryFailed, "without a token"),
        (sends(b"[]"), RegistryFailed, "without a token"),
        (sends(b"[" * 100_000), RegistryFailed, "without a token"),
        (sends(b'{"token": 5}'), RegistryFailed, "without a token"),
        (sends(b'{"token": "a\\r\\nX-Evil: b"}'), RegistryFailed, "without a token"),
        (sends(b'{"token": "' + b"x" * (1 << 18) + b'"}'), RegistryFailed, "larger than"),
    ],
)
def test_token_services_that_fail(registry, pull, answer, error, words):
    """A refusal is told in its own words; an answer that is no token, or a huge one, is refused."""
    registry.on("/token", answer)
    with pytest.raises(error, match=words) as caught:
        pull()
    assert SECRET not in str(caught.value)


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(
    ("realm", "error", "words"),
    [
        ("file:///etc/passwd", RegistryFailed, "neither http nor https"),
        ("http://169.254.169.254/token", RegistryFailed, "into this machine"),
        ("http://auth.example/token", RegistryDenied, "in the clear to auth.example"),
        ("http://x:port/", RegistryFailed, "no URL"),
        ("/token", RegistryFailed, "neither http nor https"),
    ],
)
def test_where_a_password_may_not_go(registry, pull, realm, error, words):
    """A realm that would carry a password over an open network, or lead into this one, is refused."""
    _guard(registry, "good", realm=realm)
    with pytest.raises(error, match=words):
        pull()


def test_a_token_service_that_redirects(registry, pull, tmp_path):
    """Where a token service leads, it leads without the password."""
    docker_login(tmp_path, registry.host)
    with HostileRegistry() as other:
        other.on("/t", sends(b'{"token": "good"}'))
        registry.on("/token", status(307, Location=f"http://{other.host}/t"))
        pull()
        assert "authorization" not in other.asked[0].headers


@pytest.mark.parametrize("code", [401, 403])
def test_docker_hub_does_not_say_what_there_is(code):
    """Docker Hub's refusal of what it does not know is told as an unknown or private image."""
    answer = Answer(status=code, headers={}, body=b'{"errors": [{"code": "DENIED", "message": "access denied"}]}')
    error = to_image(answer, parse("nosuch/name"), "")
    assert isinstance(error, ImageNotFound)
    assert "docker.io/nosuch/name:latest was not found, or is private: access denied" in str(error)
    assert "docker login" in error.hint
