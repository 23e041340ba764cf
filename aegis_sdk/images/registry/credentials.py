"""Credentials for registries, from where docker and podman keep them; secrets stand in no message and no repr."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import attrs

from aegis_sdk.errors import RegistryDenied
from aegis_sdk.images.registry.reference import DOCKER_HUB

if TYPE_CHECKING:
    import subprocess

#: Where podman logs in when the session has no directory of its own.
_RUNTIME = "/run/containers"
_FILE_MAX = 4 << 20
_HELPER_SECONDS = 20.0
_HELPER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = frozenset({"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
#: What a helper says, by the protocol of github.com/docker/docker-credential-helpers, when it has none.
_NOT_FOUND = b"credentials not found"
_TEXTS = ("auth", "identitytoken", "username", "password")
_TOKEN_USER = "<token>"  # noqa: S105  # by the same protocol: the secret is an identity token


@attrs.frozen(kw_only=True)
class Credentials:
    """A user with a password, or an identity token that stands for both."""

    user: str = ""
    password: str = attrs.field(default="", repr=False)
    identity_token: str = attrs.field(default="", repr=False)

    def basic(self) -> str:
        """The Authorization header of HTTP's basic authentication."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


def find(registry: str, repository: str, *, environ: Mapping[str, str]) -> Credentials | None:
    """What this user has for *repository*; None if there is nothing, RegistryDenied if it cannot be read."""
    for path in files(environ):
        if found := _File(path, environ).find(registry, repository):
            return found
    return None


def faults(environ: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the files, in words without secrets; no helper is run."""
    for path in files(environ):
        try:
            _File(path, environ).check()
        except RegistryDenied as error:
            yield error.message


def files(environ: Mapping[str, str]) -> Iterator[Path]:
    """The files that may hold credentials, the most telling first."""
    home = environ.get("HOME")
    if path := environ.get("REGISTRY_AUTH_FILE"):
        yield Path(path)
    runtime = environ.get("XDG_RUNTIME_DIR")
    yield Path(runtime, "containers/auth.json") if runtime else Path(_RUNTIME, str(os.getuid()), "auth.json")
    if config := environ.get("XDG_CONFIG_HOME") or (home and f"{home}/.config"):
        yield Path(config, "containers/auth.json")
    if docker := environ.get("DOCKER_CONFIG") or (home and f"{home}/.docker"):
        yield Path(docker, "config.json")


@attrs.frozen
class _File:
    _path: Path
    _environ: Mapping[str, str] = attrs.field(repr=False)

    def find(self, registry: str, repository: str) -> Credentials | None:
        members = self._read()
        helpers = {_host(key): name for key, name in self._object(members, "credHelpers").items()}
        if registry in helpers and (found := self._ask(helpers[registry], registry)):
            return found
        if found := self._listed(self._object(members, "auths"), f"{registry}/{repository}"):
            return found
        store = members.get("credsStore")
        return self._ask(store, registry) if store else None

    def check(self) -> None:
        """RegistryDenied if what it says cannot serve any registry."""
        import shutil

        members = self._read()
        for entry in self._object(members, "auths").values():
            self._entry(entry)
        store = members.get("credsStore")
        for helper in (*self._object(members, "credHelpers").values(), *([store] if store else [])):
            program = self._program(helper)
            if not shutil.which(program, path=self._environ.get("PATH")):
                raise self._broken(f"names a credential helper that is not installed: {program}")

    def _read(self) -> dict[str, object]:
        try:
            with self._path.open("rb") as file:
                data = file.read(_FILE_MAX + 1)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            raise self._broken("cannot be read") from error
        try:
            members = json.loads(data) if len(data) <= _FILE_MAX else None
        except (ValueError, RecursionError):
            # Not chained: the JSON error carries the whole text, secrets and all.
            members = None
        if not isinstance(members, dict):
            raise self._broken("is not the JSON that docker and podman write")
        return members

    def _object(self, members: dict[str, object], name: str) -> dict[str, object]:
        value = members.get(name) or {}
        if not isinstance(value, dict):
            raise self._broken(f"is broken: {name!r} is no object")
        return value

    def _listed(self, auths: dict[str, object], wanted: str) -> Credentials | None:
        entries = {_key(key): value for key, value in auths.items()}
        while wanted:
            if found := self._entry(entries.get(wanted)):
                return found
            wanted = wanted.rpartition("/")[0]
        return None

    def _entry(self, entry: object) -> Credentials | None:
        if not entry:  # docker leaves {} beside the name of a helper
            return None
        if not isinstance(entry, dict):
            raise self._broken("is broken: an entry of 'auths' is no object")
        auth, token, user, password = (self._text(entry, name) for name in _TEXTS)
        if auth:
            user, password = self._decoded(auth)
        return Credentials(user=user, password=password, identity_token=token) if auth or user or token else None

    def _text(self, entry: dict[str, object], name: str) -> str:
        value = entry.get(name) or ""
        if not isinstance(value, str):
            raise self._broken(f"is broken: {name!r} is no text")
        return value

    def _decoded(self, auth: str) -> tuple[str, str]:
        try:
            user, colon, password = base64.b64decode(auth, validate=True).decode().rstrip("\0").partition(":")
        except ValueError:
            colon = ""
        if not colon:
            raise self._broken("is broken: an 'auth' is not user:password in base64")
        return user, password

    def _ask(self, helper: object, registry: str) -> Credentials | None:
        program = self._program(helper)
        server = _HUB_KEY if registry == DOCKER_HUB else registry
        answer = self._run(program, server)
        if answer.returncode and _NOT_FOUND in answer.stdout.lower():
            return None
        if answer.returncode:
            self._helper_failed(program, registry, f"it ended with exit code {answer.returncode}")
        try:
            said = json.loads(answer.stdout)
            user, secret = str(said["Username"]), str(said["Secret"])
        except (ValueError, TypeError, KeyError, RecursionError):
            user = secret = ""
        if not secret:
            self._helper_failed(program, registry, "its answer holds no user and secret")
        if user == _TOKEN_USER:
            return Credentials(identity_token=secret)
        return Credentials(user=user, password=secret)

    def _program(self, helper: object) -> str:
        if not isinstance(helper, str) or not _HELPER_NAME.fullmatch(helper):
            raise self._broken("names a credential helper that cannot be a program's name")
        return f"docker-credential-{helper}"

    def _run(self, program: str, server: str) -> subprocess.CompletedProcess[bytes]:
        import subprocess

        try:
            return subprocess.run(
                [program, "get"],
                input=server.encode(),
                capture_output=True,
                check=False,
                env=dict(self._environ),
                timeout=_HELPER_SECONDS,
            )
        except subprocess.TimeoutExpired:
            self._helper_failed(program, server, f"it did not answer within {_HELPER_SECONDS:.0f} s")
        except OSError as error:
            self._helper_failed(program, server, f"it does not run: {error.strerror}")

    def _helper_failed(self, program: str, server: str, why: str) -> NoReturn:
        # What it printed is not shown, and so is not chained either: it may be a secret.
        raise RegistryDenied(
            f"the credential helper {program} has no answer for {server}: {why}",
            hint=f"it is named in {self._path}; mend it there, or log in again with docker login",
        ) from None

    def _broken(self, why: str) -> RegistryDenied:
        return RegistryDenied(
            f"the file of credentials {self._path} {why}", hint="mend or remove it, and log in again with docker login"
        )


def _key(key: str) -> str:
    """What a key of ``auths`` stands for: a host, or by podman's custom a host and the begin of a path."""
    bare = re.sub(r"^https?://", "", key)
    # With a scheme docker has written it, and then the path is an API's version.
    host, slash, path = bare.partition("/")
    if bare != key or re.fullmatch(r"v[12]/?|", path):
        return _hub(host)
    return f"{_hub(host)}{slash}{path.rstrip('/')}"


def _host(key: str) -> str:
    return _key(key).partition("/")[0]


def _hub(host: str) -> str:
    return DOCKER_HUB if host.lower() in _HUB_HOSTS else host.lower()
