"""Where a registry may lead us, through whom we reach it, and what goes along."""

from __future__ import annotations

import base64
import socket
import ssl
from types import SimpleNamespace

import pytest

from aegis_sdk.errors import RegistryDenied, RegistryFailed
from aegis_sdk.images.manifest import OCI_MANIFEST
from aegis_sdk.images.registry.transport import proxy_for
from aegis_sdk.images.registry.trust import Trust, is_link_local, is_loopback
from tests.sdk.registry.hostile_registry import (
    BLOB,
    CONFIG,
    IMAGE,
    MANIFEST,
    SECRET,
    Answer,
    HostileRegistry,
    cut,
    docker_login,
    ranged,
    sends,
    status,
    tunnel,
)


def _redirect(url: str, code: int = 307) -> Answer:
    return status(code, Location=url)


def test_credentials_stay_with_their_registry(registry, other, pull, tmp_path):
    """A redirect to another host is followed without the Authorization header."""
    docker_login(tmp_path, registry.host)
    challenge = status(401, WWW_Authenticate='Basic realm="r"')
    registry.on(MANIFEST, challenge, sends(IMAGE.manifest, Content_Type=OCI_MANIFEST))
    registry.on(BLOB, _redirect(f"http://{other.host}/data?signed=1"))
    other.on("/data", cut(IMAGE.content, 1000), ranged(IMAGE.content))
    pull()
    assert all("authorization" in asked.headers for asked in registry.asked[1:])
    assert [asked.headers.get("range") for asked in other.asked] == [None, "bytes=1000-"]
    assert not any("authorization" in asked.headers for asked in other.asked)


def test_only_the_registry_may_ask_who_we_are(registry, other, pull, tmp_path):
    """A host that we were redirected to cannot have a password sent to where it likes."""
    docker_login(tmp_path, registry.host)
    registry.on(MANIFEST, _redirect(f"http://{other.host}/m"))
    other.on("/m", status(401, WWW_Authenticate=f'Bearer realm="http://{other.host}/token",service="s"'))
    with pytest.raises(RegistryDenied):
        pull()
    assert not other.requests("/token")


def test_a_redirect_within_the_registry(registry, pull, tmp_path):
    """On the same origin the Authorization header stays."""
    docker_login(tmp_path, registry.host)
    registry.on(MANIFEST, status(401, WWW_Authenticate="Basic"), _redirect("/elsewhere", 301))
    registry.on("/elsewhere", sends(IMAGE.manifest, Content_Type=OCI_MANIFEST))
    pull()
    assert "authorization" in registry.requests("/elsewhere")[0].headers


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (MANIFEST, "more than 5 times"),
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://x/", "neither http nor https"),
        ("http://169.254.169.254/latest/meta-data/", "into this machine"),
        ("http://[::ffff:169.254.169.254]/", "into this machine"),
        ("http://0.0.0.0/", "into this machine"),
        ("http://0xa9fea9fe/", "into this machine"),
        ("http://x:port/", "no URL"),
    ],
)
def test_where_redirects_may_not_lead(registry, pull, url, words):
    """Loops, other schemes and addresses of this machine's own network are refused."""
    registry.on(MANIFEST, _redirect(url))
    with pytest.raises(RegistryFailed, match=words):
        pull()
    assert len(registry.asked) <= 6


def test_from_https_to_plain_http(other, source, authority):
    """What is asked for over TLS is not taken without it, wherever it is said to be."""
    with HostileRegistry(authority) as secured:
        host = secured.host.replace("127.0.0.1", "localhost")
        secured.on(MANIFEST, _redirect(f"http://{other.host}/m"))
        with pytest.raises(RegistryFailed, match="redirects from https to plain http"):
            source(environ={"SSL_CERT_FILE": f"{authority}/ca.crt"}).find(f"{host}/a/b", architecture="amd64")
    assert not other.asked


def test_a_host_without_tls(registry, other, pull):
    """A host that does not speak TLS where it should is told as that, with what would allow it."""
    registry.on(MANIFEST, _redirect(f"https://{other.host}/m"))
    with pytest.raises(RegistryFailed, match="does not speak TLS") as caught:
        pull()
    assert caught.value.hint.endswith(f"AEGIS_PLAIN_HTTP={other.host}")


def test_what_the_doctor_sees(source, tmp_path):
    """Files of credentials are listed when they are sound, and named with what is wrong when they are not."""
    docker_login(tmp_path, "registry.example")
    (sound,) = source().check()
    assert sound.ok
    assert f"{tmp_path}/.docker/config.json" in sound.seen
    (tmp_path / ".docker/config.json").write_text(f'{{"{SECRET}')
    (broken,) = source().check()
    assert (broken.ok, broken.required) == (False, False)
    assert f"{tmp_path}/.docker/config.json is not the JSON" in broken.seen
    assert SECRET not in broken.seen + broken.fix


def test_a_system_without_authorities(monkeypatch):
    """Where the system knows no authority, those that came with Python's packages are taken."""
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_arguments: None)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: SimpleNamespace(capath=None))
    assert Trust({}).context("registry.example").cert_store_stats()["x509_ca"] > 50


@pytest.mark.parametrize("host", ["localhost", "localhost.", "a.localhost", "127.0.0.1", "127.9.9.9", "127.1", "::1"])
def test_what_is_loopback(host):
    """All the names of this machine's own loopback are known as that."""
    assert is_loopback(host)
    assert not is_loopback(f"{host}.example")
    assert not is_link_local(host)


@pytest.mark.parametrize("user", ["", "me:p%40ss@"])
def test_a_proxy_is_used(other, source, user):
    """HTTP_PROXY is honoured, with its password; hosts in NO_PROXY are spoken to directly."""
    other.on("http://registry.example/v2/a/b/manifests/latest", sends(IMAGE.manifest, Content_Type=OCI_MANIFEST))
    other.on(f"http://registry.example{CONFIG}", sends(next(iter(IMAGE.blobs.values()))))
    environ = {"HTTP_PROXY": f"http://{user}{other.host}"}
    source("registry.example", environ=environ).find("registry.example/a/b", architecture="amd64")
    expected = f"Basic {base64.b64encode(b'me:p@ss').decode()}" if user else None
    assert [asked.headers.get("proxy-authorization") for asked in other.asked] == [expected] * 2


def test_a_proxy_for_https(other, source):
    """HTTPS goes through the proxy's CONNECT; what the proxy refuses is told as that."""
    other.on("registry.example:443", status(403))
    with pytest.raises(RegistryFailed, match=r"the proxy has no way to registry\.example: 403"):
        source(environ={"https_proxy": other.host}).find("registry.example/a/b", architecture="amd64")
    assert {asked.method for asked in other.asked} == {"CONNECT"}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("proxied", ["http", "https"])
def test_a_proxy_that_is_down(source, scheme, proxied):
    """A proxy that nothing answers at is named as that, without its password; the registry is not blamed."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        environ = {f"{scheme}_proxy": f"{proxied}://me:{SECRET}@{address}"}
        plain = ["registry.example"] if scheme == "http" else []
        with pytest.raises(RegistryFailed) as caught:
            source(*plain, environ=environ).find("registry.example/a/b", architecture="amd64")
    assert str(caught.value).startswith(f"the proxy on the way to registry.example fails: nothing answers at {address}")
    assert "HTTPS_PROXY" in caught.value.hint
    assert SECRET not in str(caught.value)


def test_a_proxy_without_tls(other, source):
    """TLS to a proxy that has none is the proxy's fault."""
    environ = {"https_proxy": f"https://{other.host}"}
    with pytest.raises(RegistryFailed, match=f"the proxy on the way to .* fails: {other.host} does not speak TLS"):
        source(environ=environ).find("registry.example/a/b", architecture="amd64")


def test_a_registry_behind_a_proxy(other, source, authority):
    """What is wrong with a registry behind a proxy is not said of the proxy."""
    with HostileRegistry(authority) as secured:
        other.on("registry.example:443", tunnel(secured.host))
        with pytest.raises(RegistryFailed, match=r"^the certificate of registry\.example is not trusted"):
            source(environ={"https_proxy": other.host}).find("registry.example/a/b", architecture="amd64")


def test_a_host_that_is_not(source):
    """A host that does not exist is told with the image that it was to be asked for."""
    with pytest.raises(
        RegistryFailed, match=r"no host gone\.invalid, which was to be asked for gone\.invalid/a/b:latest"
    ):
        source().find("gone.invalid/a/b", architecture="amd64")


@pytest.mark.parametrize("address", ["socks5://h:1", "http://u:gr33n@", "http://h:x", "file:///x"])
def test_a_proxy_that_cannot_be(source, address):
    """What is no HTTP proxy is refused without showing it."""
    with pytest.raises(RegistryFailed, match="no address of an HTTP proxy") as caught:
        source(environ={"https_proxy": address}).find("registry.example/a/b", architecture="amd64")
    assert SECRET not in str(caught.value)


def test_a_tunnel_through_a_proxy(other, source, authority):
    """TLS goes through the proxy from end to end: it sees the host's name and nothing else."""
    with HostileRegistry(authority) as secured:
        secured.publish(IMAGE)
        other.on("registry.example:443", tunnel(secured.host))
        environ = {"HTTPS_PROXY": f"http://{other.host}", "SSL_CERT_FILE": f"{authority}/ca.crt"}
        found = source(environ=environ).find("registry.example/a/b", architecture="amd64")
        found.layers[0].fetch(lambda _count: None)
        assert [asked.path for asked in secured.asked] == [MANIFEST, CONFIG, BLOB]
    assert {(asked.method, asked.path) for asked in other.asked} == {("CONNECT", "registry.example:443")}


@pytest.mark.parametrize(
    ("scheme", "host", "port", "environ", "expected"),
    [
        ("https", "r.example", None, {}, ""),
        ("https", "r.example", None, {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https", "r.example", None, {"https_proxy": "p:1", "HTTPS_PROXY": "q:1"}, "http://p:1"),
        ("https", "r.example", None, {"HTTP_PROXY": "p:1"}, ""),
        ("http", "r.example", None, {"HTTP_PROXY": "p:1"}, "http://p:1"),
        ("http", "r.example", None, {"ALL_PROXY": "p:1"}, "http://p:1"),
        ("http", "localhost", 5000, {"HTTP_PROXY": "p:1"}, ""),
        ("http", "127.1.2.3", None, {"HTTP_PROXY": "p:1"}, ""),
        ("http", "r.example", None, {"HTTP_PROXY": "p:1", "NO_PROXY": "*"}, ""),
        ("http", "r.example", None, {"HTTP_PROXY": "p:1", "NO_PROXY": "a, Example"}, ""),
        ("http", "r.example", None, {"HTTP_PROXY": "p:1", "no_proxy": ".example"}, ""),
        ("http", "r.example", None, {"HTTP_PROXY": "p:1", "NO_PROXY": "*.example"}, ""),
        ("http", "example", None, {"HTTP_PROXY": "p:1", "NO_PROXY": ".example"}, "http://p:1"),
        ("http", "rexample", None, {"HTTP_PROXY": "p:1", "NO_PROXY": "example"}, "http://p:1"),
        ("http", "r.example", 80, {"HTTP_PROXY": "p:1", "NO_PROXY": "r.example:81"}, "http://p:1"),
        ("http", "r.example", 81, {"HTTP_PROXY": "p:1", "NO_PROXY": "r.example:81"}, ""),
        ("http", "10.1.2.3", None, {"HTTP_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, ""),
        ("http", "11.1.2.3", None, {"HTTP_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
    ],
)
def test_which_proxy(scheme, host, port, environ, expected):
    """Proxies and their exceptions are read as docker reads them; this machine itself needs none."""
    assert proxy_for(scheme, host, port, environ=environ) == expected
