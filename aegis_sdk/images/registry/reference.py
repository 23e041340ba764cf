"""References to images in registries, spelled as Docker spells them: ``[HOST/]NAME[:TAG][@DIGEST]``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import attrs

from aegis_sdk.errors import ImageInvalid, InvalidValue
from aegis_sdk.images import digests

DOCKER_HUB = "docker.io"
_LATEST = "latest"
_NAME_MAX = 255
_TEXT_MAX = 1024

# The grammar of github.com/distribution/reference (reference.go).
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+(?:\.[0-9]+)*\])(?::([0-9]{{1,5}}))?", re.ASCII)
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_EXAMPLE = "for example: alpine, python:3.12-alpine, ghcr.io/owner/name:tag, localhost:5000/name"


@attrs.frozen(kw_only=True)
class Reference:
    """An image in a registry; either *tag* or *digest* is empty. As text it is the full spelling."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}" + (f"@{self.digest}" if self.digest else f":{self.tag}")

    def at(self, digest: str) -> Reference:
        """The reference to what has that *digest* in the same repository."""
        return attrs.evolve(self, tag="", digest=digest)


def parse(text: str) -> Reference:
    """What *text* refers to; a digest wins over a tag. InvalidValue says what is wrong."""
    _check_text(text)
    rest, at, digest = text.partition("@")
    host, path = _split_host(rest, text)
    # What is left has no port any more, so a colon is a tag's.
    path, colon, tag = path.partition(":")
    _check_path(path, text)
    if colon and not _TAG.fullmatch(tag):
        raise _invalid(text, f"{tag!r} is no tag: letters, digits, '_', '.' and '-', at most 128")
    if at:
        return Reference(registry=host, repository=path, digest=_digest(digest, text))
    return Reference(registry=host, repository=path, tag=tag or _LATEST)


def _check_text(text: str) -> None:
    if not text:
        raise InvalidValue("the image's reference is empty", hint=_EXAMPLE)
    if len(text) > _TEXT_MAX:
        raise InvalidValue(f"an image's reference has at most {_TEXT_MAX} characters, this one has {len(text)}")
    if scheme := _SCHEME.match(text):
        raise _invalid(text, "a reference has no scheme", hint=f"write {text[scheme.end() :].rstrip('/')}")
    if text.startswith(("/", ".", "~")):
        raise _path(text)
    if odd := next((c for c in text if not c.isprintable() or c.isspace()), None):
        raise _invalid(text, f"it holds the character {odd!r}")


def _path(text: str) -> InvalidValue:
    path = os.path.expanduser(text)  # noqa: PTH111  # which leaves the home of nobody as it is
    # Behind the last colon a name may be meant, of one image of several.
    there = next(filter(os.path.exists, (path, path.rpartition(":")[0])), "")
    if not there:
        return _invalid(text, "it looks like a path, and there is no such file")
    if not Path(there).is_dir():
        return _invalid(text, "it looks like a path", hint=f"for a file of docker save write docker-archive:{path}")
    if Path(there, "oci-layout").is_file():
        return _invalid(text, "it looks like a path", hint=f"for the OCI layout there write oci:{path}")
    return _invalid(text, "it looks like a path", hint=f"for a directory of this machine write dir:{path}")


def _split_host(name: str, text: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first.lower() == "localhost"):
        return DOCKER_HUB, _official(name)
    host = first.lower()
    found = _HOST.fullmatch(host)
    if not found or (found[1] and not 0 < int(found[1]) < 1 << 16) or len(host) > _NAME_MAX:
        raise _invalid(text, f"{first!r} is no registry's host or host:port")
    if host in (DOCKER_HUB, f"index.{DOCKER_HUB}"):
        return DOCKER_HUB, _official(rest)
    return host, rest


def _official(path: str) -> str:
    return path if "/" in path else f"library/{path}"


def _check_path(path: str, text: str) -> None:
    if path != path.lower():
        spelled = path.removeprefix("library/")
        raise _invalid(
            text, "repository names are lower case", hint=f"write {text.replace(spelled, spelled.lower(), 1)}"
        )
    for name in path.split("/"):
        if not _NAME.fullmatch(name):
            raise _invalid(text, f"{name!r} cannot be part of a repository's name", hint=_EXAMPLE)
    if len(path) > _NAME_MAX:
        raise _invalid(text, f"the repository's name is longer than {_NAME_MAX} characters")


def _digest(digest: str, text: str) -> str:
    try:
        return digests.valid(digest)
    except ImageInvalid as error:
        raise _invalid(text, error.message) from error


def _invalid(text: str, why: str, *, hint: str = "") -> InvalidValue:
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return InvalidValue(f"{shown!r} is no image reference: {why}", hint=hint)
