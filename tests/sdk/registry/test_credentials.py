"""Credentials come from where docker and podman keep them, and go nowhere else."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from aegis_sdk.errors import RegistryDenied
from aegis_sdk.images.registry import credentials
from aegis_sdk.images.registry.credentials import Credentials, faults, find

SECRET = "gr33n:w0rd é"


def _auth(user: str = "me", password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user without any credentials."""
    monkeypatch.setattr(credentials, "_RUNTIME", f"{tmp_path}/none")
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}


def _write(home: str, document: object, path: str = ".docker/config.json") -> Path:
    file = Path(home, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return file


def _helper(environ: dict[str, str], name: str, script: str) -> None:
    path = Path(environ["HOME"], "bin", f"docker-credential-{name}")
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    environ["PATH"] = f"{path.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("https://ghcr.io/v2/", "ghcr.io"),
        ("GHCR.io", "ghcr.io"),
        ("localhost:5000", "localhost:5000"),
        ("http://localhost:5000/v1/", "localhost:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
    ],
)
def test_spellings_of_a_host(environ, key, registry):
    """A registry is found under each of the spellings that docker and podman use for it."""
    _write(environ["HOME"], {"auths": {key: _auth()}})
    assert find(registry, "library/x", environ=environ) == Credentials(user="me", password=SECRET)
    assert find("other.example", "library/x", environ=environ) is None


def test_the_longest_namespace_wins(environ):
    """Of podman's keys with a path, the longest that leads to the repository counts, by whole names."""
    auths = {"q.io": _auth("host"), "q.io/a": _auth("a"), "q.io/a/b": _auth("ab")}
    _write(environ["HOME"], {"auths": auths}, ".config/containers/auth.json")
    users = [find("q.io", path, environ=environ).user for path in ("a/b/c", "a/b", "a/bc", "a/x", "ax", "z")]
    assert users == ["ab", "ab", "a", "a", "host", "host"]


def test_the_order_of_the_files(environ):
    """REGISTRY_AUTH_FILE comes before the session's file, that before the user's, and docker's is the last."""
    home = environ["HOME"]
    files = ["given.json", "run/containers/auth.json", ".config/containers/auth.json", "docker/config.json"]
    environ |= {"REGISTRY_AUTH_FILE": f"{home}/given.json", "XDG_RUNTIME_DIR": f"{home}/run"}
    environ["DOCKER_CONFIG"] = f"{home}/docker"
    for file in files:
        _write(home, {"auths": {"q.io": _auth(file)}}, file)
    for file in files:
        assert find("q.io", "x", environ=environ).user == file
        Path(home, file).unlink()
    assert find("q.io", "x", environ=environ) is None


def test_podman_without_a_session(environ, monkeypatch):
    """Without XDG_RUNTIME_DIR the session's file is where podman puts it then."""
    monkeypatch.setattr(credentials, "_RUNTIME", f"{environ['HOME']}/containers")
    auths = {"auths": {"q.io": _auth()}}
    _write(environ["HOME"], auths, f"containers/{os.getuid()}/auth.json")
    assert find("q.io", "x", environ=environ) == Credentials(user="me", password=SECRET)
    assert find("q.io", "x", environ={**environ, "XDG_RUNTIME_DIR": f"{environ['HOME']}/run"}) is None


def test_user_and_password_by_name(environ):
    """An entry may name user and password as they are; what is encoded beside them wins."""
    plain = {"username": "u", "password": SECRET}
    _write(environ["HOME"], {"auths": {"q.io": plain, "r.io": {**plain, **_auth()}}})
    assert find("q.io", "x", environ=environ) == Credentials(user="u", password=SECRET)
    assert find("r.io", "x", environ=environ).user == "me"


def test_faults(environ):
    """All files are looked through without a helper being run; what is sound has no faults."""
    _helper(environ, "mine", 'touch "$HOME/asked"')
    sound = {"auths": {"q.io": _auth(), "r.io": {}}, "credsStore": "mine", "credHelpers": {"s.io": "mine"}}
    _write(environ["HOME"], sound)
    assert list(faults(environ)) == []
    broken = _write(environ["HOME"], SECRET, ".config/containers/auth.json")
    file = _write(environ["HOME"], {"auths": {"q.io": _auth()}, "credHelpers": {"q.io": "gone"}})
    assert list(faults(environ)) == [
        f"the file of credentials {broken} is not the JSON that docker and podman write",
        f"the file of credentials {file} names a credential helper that is not installed: docker-credential-gone",
    ]
    assert not Path(environ["HOME"], "asked").exists()


def test_identity_tokens(environ):
    """An identity token is taken beside or without user and password."""
    _write(environ["HOME"], {"auths": {"q.io": {"identitytoken": "tok"}, "r.io": {**_auth(), "identitytoken": "t2"}}})
    assert find("q.io", "x", environ=environ) == Credentials(identity_token="tok")
    assert find("r.io", "x", environ=environ).identity_token == "t2"


def test_a_helper_for_one_registry(environ):
    """A helper named for a registry is asked for it, and for no other."""
    _helper(environ, "mine", f"""cat > "$HOME/asked"; echo '{{"Username": "u", "Secret": "{SECRET}"}}'""")
    _write(environ["HOME"], {"credHelpers": {"q.io": "mine"}})
    assert find("q.io", "x", environ=environ) == Credentials(user="u", password=SECRET)
    assert Path(environ["HOME"], "asked").read_text() == "q.io"
    assert find("r.io", "x", environ=environ) is None


def test_a_store_for_all(environ):
    """The store is asked for Docker Hub by its old name; what it calls <token> is an identity token."""
    _helper(environ, "all", """cat > "$HOME/asked"; echo '{"Username": "<token>", "Secret": "t"}'""")
    _write(environ["HOME"], {"credsStore": "all", "auths": {"https://index.docker.io/v1/": {}}})
    assert find("docker.io", "library/x", environ=environ) == Credentials(identity_token="t")
    assert Path(environ["HOME"], "asked").read_text() == "https://index.docker.io/v1/"


def test_a_helper_that_has_none(environ):
    """A helper that has no credentials leaves it to what comes after it."""
    _helper(environ, "none", "echo credentials not found in native keychain; exit 1")
    _write(environ["HOME"], {"credsStore": "none", "credHelpers": {"q.io": "none"}})
    assert find("q.io", "x", environ=environ) is None


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (f"echo '{SECRET}'; echo '{SECRET}' >&2; exit 3", "exit code 3"),
        (f"echo 'no JSON {SECRET}'", "no user and secret"),
        (f"""echo '["{SECRET}"]'""", "no user and secret"),
    ],
    ids=range(3),
)
def test_a_helper_that_fails(environ, script, words):
    """A helper's failure is told with its name and the file that names it, and nothing of what it printed."""
    _helper(environ, "bad", script)
    file = _write(environ["HOME"], {"credsStore": "bad"})
    with pytest.raises(RegistryDenied, match=words) as caught:
        find("q.io", "x", environ=environ)
    assert "docker-credential-bad" in str(caught.value)
    assert str(file) in str(caught.value)
    assert "w0rd" not in str(caught.value)


def test_a_helper_that_hangs(environ, monkeypatch):
    """A helper that does not answer is ended."""
    monkeypatch.setattr("aegis_sdk.images.registry.credentials._HELPER_SECONDS", 0.3)
    _helper(environ, "slow", "exec sleep 60")
    _write(environ["HOME"], {"credsStore": "slow"})
    with pytest.raises(RegistryDenied, match="did not answer"):
        find("q.io", "x", environ=environ)


@pytest.mark.parametrize("name", ["../../bin/evil", "a/b", "", "-x", "a b", "missing-program", 7, ["x"]])
def test_a_helper_that_cannot_be(environ, name):
    """What cannot be a helper's name is never run, and one that is not there is missed."""
    _write(environ["HOME"], {"credHelpers": {"q.io": name}})
    with pytest.raises(RegistryDenied):
        find("q.io", "x", environ=environ)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"auths": {{"q.io": {{"auth": "{SECRET}"}}}}}}',
        f'{{"auths": {{"q.io": {{"auth": "{SECRET}"}}',
        f'["{SECRET}"]',
        f'{{"auths": "{SECRET}"}}',
        f'{{"auths": {{"q.io": "{SECRET}"}}}}',
        '{"auths": {"q.io": {"auth": 5}}}',
        '{"auths": {"q.io": {"username": "u", "password": ["w0rd"]}}}',
        '{"auths": {"q.io": {"auth": "cGFzcw=="}}}',
        "[" * 100_000,
        "",
    ],
    ids=range(10),  # a temporary directory is named after them
)
def test_a_broken_file(environ, text):
    """A broken file is named, and nothing of what it holds."""
    file = _write(environ["HOME"], text)
    (fault,) = faults(environ)
    assert "w0rd" not in fault
    with pytest.raises(RegistryDenied, match=str(file)) as caught:
        find("q.io", "x", environ=environ)
    assert "w0rd" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_no_secret_is_printed():
    """Neither password nor token stand in what Python prints of credentials."""
    text = repr(Credentials(user="me", password="p4ss", identity_token="t0k"))
    assert "me" in text
    assert "p4ss" not in text
    assert "t0k" not in text
