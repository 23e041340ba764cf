"""What indexes, manifests and configs say (OCI image specification, Docker schema 2): hostile JSON becomes values."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from aegis_sdk.errors import ArchitectureNotFound, ImageInvalid
from aegis_sdk.images import digests
from aegis_sdk.images.documents import Document, parse
from aegis_sdk.model import ImageConfig

LIMIT = 4 << 20
CONFIG_LIMIT = 8 << 20
LAYERS_MAX = 1024
_SIZE_MAX = 64 << 30
_DEPTH_MAX = 4
_DOCUMENTS_MAX = 64
_SHOWN = 20
# What every command has to be told, as it is spelled for the guest, which takes a mebibyte with the user's own.
_DEFAULTS_MAX = 512 << 10
_WORD_MAX = (128 << 10) - 1  # Linux: MAX_ARG_STRLEN, with a NUL
_CWD_MAX = 4095  # Linux: PATH_MAX, with a NUL
_USER_MAX = 1024

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_MEDIA_TYPES: tuple[str, ...] = (OCI_INDEX, _DOCKER_LIST, OCI_MANIFEST, _DOCKER_MANIFEST)
_INDEXES = frozenset({OCI_INDEX, _DOCKER_LIST})
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
_UNSAID = frozenset({"", "application/json", "application/octet-stream", "text/plain"})

# The last three are what registries made of Docker's type for a while (docker/distribution issue 1621).
_CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
        "application/octet-stream",
        "application/json",
        "text/html",
    }
)
_LAYERS = re.compile(
    r"application/vnd\.(oci\.image\.layer\.(nondistributable\.)?v1\.tar(\+gzip|\+zstd)?"
    r"|docker\.image\.rootfs\.(foreign\.)?diff\.tar(\.gzip|\.zstd|\+zstd)?)"
)
_PLATFORM = re.compile(r"[A-Za-z0-9._-]{0,64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_BASE_VARIANTS = {"amd64": "v1", "arm64": "v8"}
_NO_SYSTEM = "this is no image of a Linux system"


@attrs.frozen(order=True)
class Platform:
    """What a program runs on, in Go's words."""

    os: str
    architecture: str
    variant: str = ""

    def is_for(self, architecture: str) -> bool:
        """Whether it is Linux on *architecture*, in whatever variant."""
        return (self.os, self.architecture) == ("linux", architecture)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@attrs.frozen(kw_only=True)
class Descriptor:
    """What a document says of a blob: everything is checked but the blob itself."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = attrs.field(factory=dict, hash=False)


@attrs.frozen
class Content:
    """What a name or a digest led to, and the media type that it was said to be (empty if nothing was said)."""

    data: bytes
    media_type: str = ""


@attrs.frozen(kw_only=True)
class Manifest:
    """What an image consists of; the lowest layer is the first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@attrs.frozen(kw_only=True)
class Configuration:
    """What the config blob of an image says."""

    platform: Platform
    created: str
    config: ImageConfig
    diff_ids: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Found:
    """The image for the wanted architecture; *digest* is its manifest's."""

    digest: str
    manifest: Manifest
    architecture: str
    created: str
    config: ImageConfig
    diff_ids: tuple[str, ...]


def find(name: str, top: Content, get: Callable[[Descriptor], bytes], *, architecture: str) -> Found:
    """The image called *name*, for Linux on *architecture*; *top* is its manifest or index.

    *get* has the bytes of a manifest or config, which are checked here. ArchitectureNotFound if the image exists for
    others only, ImageInvalid if its documents are broken.
    """
    if len(top.data) > LIMIT:
        raise ImageInvalid(f"the manifest of {name} is larger than {LIMIT >> 20} MiB")
    return _Search(name, get, architecture).find(top, digests.of(top.data))


def choose(name: str, entries: Sequence[Document], get: Callable[[Descriptor], bytes], *, architecture: str) -> Found:
    """As ``find`` does, the image called *name* that is meant by *entries* of an index, of which there may be more."""
    search = _Search(name, get, architecture)
    return search.only(describe(entries[0])) if len(entries) == 1 else search.choose(entries)


def configuration(data: bytes, what: str) -> Configuration:
    """What *data*, the config blob of an image, says."""
    document = parse(data, what)
    platform = _platform(document) or Platform("", "")
    return Configuration(
        # Images of the first years do not name a system; there was only one.
        platform=attrs.evolve(platform, os=platform.os or "linux"),
        created=created if _TIME.fullmatch(created := document.text("created")) else "",
        config=_defaults(document.below("config")),
        diff_ids=tuple(digests.valid(each) for each in document.below("rootfs").texts("diff_ids")),
    )


def describe(document: Document) -> Descriptor:
    """The descriptor that *document* is."""
    return Descriptor(
        media_type=document.text("mediaType"),
        digest=digests.valid(document.text("digest")),
        size=document.whole("size", at_most=_SIZE_MAX),
        platform=_platform(document.below("platform")),
        annotations=document.pairs("annotations"),
    )


@attrs.define
class _Search:
    _name: str
    _get: Callable[[Descriptor], bytes]
    _architecture: str
    _candidates: list[Descriptor] = attrs.field(factory=list, init=False)
    _met: set[str] = attrs.field(factory=set, init=False)
    _others: set[Platform] = attrs.field(factory=set, init=False)
    _fetched: int = attrs.field(default=0, init=False)

    def find(self, top: Content, digest: str) -> Found:
        what = f"the manifest of {self._name}"
        document = parse(top.data, what)
        if _media_type(document, top.media_type) in _INDEXES:
            return self.choose(document.documents("manifests"))
        found, platform = self._image(digest, document)
        if not platform.is_for(self._architecture):
            raise not_found(self._name, [platform], architecture=self._architecture)
        return found

    def only(self, descriptor: Descriptor) -> Found:
        data = self._fetch(descriptor, f"the manifest of {self._name}", at_most=LIMIT)
        return self.find(Content(data, descriptor.media_type), descriptor.digest)

    def choose(self, entries: Sequence[Document]) -> Found:
        self._walk(entries, depth=1)
        return self._best()

    def _walk(self, entries: Sequence[Document], *, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise ImageInvalid(f"{self._name}: its indexes are nested more than {_DEPTH_MAX} deep")
        for entry in entries:
            descriptor = describe(entry)
            if _is_artifact(entry, descriptor) or descriptor.digest in self._met:
                continue
            if descriptor.platform and not descriptor.platform.is_for(self._architecture):
                self._others.add(descriptor.platform)
                continue
            self._met.add(descriptor.digest)
            if descriptor.media_type in _INDEXES:
                self._walk(self._document(descriptor).documents("manifests"), depth=depth + 1)
            else:
                self._candidates.append(descriptor)

    def _best(self) -> Found:
        # What does not say for whom it is, as in buildah's layouts, is asked last: its config has to be read.
        for descriptor in sorted(self._candidates, key=_rank):
            document = self._document(descriptor)
            if not descriptor.platform and describe(document.below("config")).media_type not in _CONFIGS:
                continue
            found, platform = self._image(descriptor.digest, document)
            if platform.is_for(self._architecture) or (not platform.architecture and descriptor.platform):
                return found
            if descriptor.platform:
                raise ImageInvalid(f"{self._name}: its index says {descriptor.platform}, its config says {platform}")
            self._others.add(platform)
        raise not_found(self._name, self._others, architecture=self._architecture)

    def _document(self, descriptor: Descriptor) -> Document:
        what = f"{self._name}: the manifest {descriptor.digest}"
        document = parse(self._fetch(descriptor, what, at_most=LIMIT), what)
        _media_type(document, descriptor.media_type)
        return document

    def _image(self, digest: str, document: Document) -> tuple[Found, Platform]:
        manifest, what = _manifest(document), f"{self._name}: the config"
        said = configuration(self._fetch(manifest.config, what, at_most=CONFIG_LIMIT), what)
        layers, diff_ids = len(manifest.layers), len(said.diff_ids)
        if layers != diff_ids:
            raise ImageInvalid(f"{self._name}: the manifest has {layers} layers, the config {diff_ids}")
        return Found(
            digest=digest,
            manifest=manifest,
            architecture=self._architecture,
            created=said.created,
            config=said.config,
            diff_ids=said.diff_ids,
        ), said.platform

    def _fetch(self, descriptor: Descriptor, what: str, *, at_most: int) -> bytes:
        self._fetched += 1
        if self._fetched > _DOCUMENTS_MAX:
            raise ImageInvalid(f"{self._name}: more than {_DOCUMENTS_MAX} documents say what it is")
        if descriptor.size > at_most:
            raise ImageInvalid(f"{what} is larger than {at_most >> 20} MiB")
        data = self._get(descriptor)
        if len(data) != descriptor.size:
            raise ImageInvalid(f"{what} has {len(data)} bytes and should have {descriptor.size}")
        return digests.check(data, descriptor.digest, what)


def _rank(descriptor: Descriptor) -> tuple[bool, bool, list[int], str]:
    platform = descriptor.platform or Platform("", "")
    base = platform.variant in {"", _BASE_VARIANTS.get(platform.architecture, "")}
    return (
        not descriptor.platform,
        not base,
        [int(n) for n in re.findall(r"[0-9]+", platform.variant)],
        platform.variant,
    )


def not_found(name: str, platforms: Iterable[Platform], *, architecture: str) -> ArchitectureNotFound:
    """The error that an image called *name* exists for *platforms* only."""
    seen = sorted({str(each) for each in platforms})
    shown = ", ".join(seen[:_SHOWN]) + (", ..." if len(seen) > _SHOWN else "")
    return ArchitectureNotFound(f"no linux/{architecture} variant found in {name} (has: {shown or 'no image'})")


def _media_type(document: Document, said: str) -> str:
    said, own = said.partition(";")[0].strip(), document.text("mediaType")
    if said not in _UNSAID and own and own != said:
        raise ImageInvalid(f"{document.what} was said to be {said[:200]!r} and calls itself {own[:200]!r}")
    kind = (own or _guess(document)) if said in _UNSAID else said
    if kind.startswith(_SCHEMA_1) or "fsLayers" in document:
        raise ImageInvalid(
            f"{document.what} is of Docker's schema 1, which does not say what its layers hold",
            hint="push the image again with a newer docker, podman or buildah",
        )
    if kind not in MANIFEST_MEDIA_TYPES:
        raise ImageInvalid(f"{document.what} has the media type {kind[:200]!r}: {_NO_SYSTEM}")
    _require_consistent(document, kind)
    return kind


def _guess(document: Document) -> str:
    if "manifests" in document:
        return OCI_INDEX
    return OCI_MANIFEST if "layers" in document or "config" in document else ""


def _require_consistent(document: Document, kind: str) -> None:
    # A document that can be read as both would be two images under one digest: CVE-2021-41190.
    for name in ("layers", "config") if kind in _INDEXES else ("manifests",):
        if name in document:
            raise ImageInvalid(f"{document.what} is said to be {kind!r}, which has no {name!r}")
    if document.whole("schemaVersion", at_most=1 << 32) != 2:
        raise ImageInvalid(f"{document.what}: 'schemaVersion' is not 2")


def _is_artifact(entry: Document, descriptor: Descriptor) -> bool:
    return (
        descriptor.media_type not in MANIFEST_MEDIA_TYPES
        or entry.text("artifactType") not in {"", *_CONFIGS}
        or "vnd.docker.reference.type" in descriptor.annotations
        or (descriptor.platform is not None and "unknown" in {descriptor.platform.os, descriptor.platform.architecture})
    )


def _manifest(document: Document) -> Manifest:
    if "config" not in document:
        raise ImageInvalid(f"{document.what} names no config")
    config, layers = describe(document.below("config")), tuple(map(describe, document.documents("layers")))
    if config.media_type not in _CONFIGS:
        raise ImageInvalid(f"{config.media_type[:200]!r} is its config's media type: {_NO_SYSTEM}")
    for layer in layers:
        if not _LAYERS.fullmatch(layer.media_type):
            raise ImageInvalid(f"{document.what}: {layer.media_type[:200]!r} is a layer's media type: {_NO_SYSTEM}")
    if len(layers) > LAYERS_MAX:
        raise ImageInvalid(f"{document.what} has {len(layers)} layers, more than {LAYERS_MAX}")
    return Manifest(config=config, layers=layers)


def _platform(document: Document) -> Platform | None:
    words = [document.text(name) for name in ("os", "architecture", "variant")]
    for word in words:
        if not _PLATFORM.fullmatch(word):
            raise ImageInvalid(f"{document.what}: {word[:200]!r} is no part of a platform")
    return Platform(*words) if any(words) else None


def _defaults(document: Document) -> ImageConfig:
    pairs = (each.partition("=") for each in document.texts("Env"))
    defaults = ImageConfig(
        env={name: value for name, equals, value in pairs if name and equals},
        cwd=_cwd(_short(document, "WorkingDir", _CWD_MAX)),
        user=_user(_short(document, "User", _USER_MAX)),
        entrypoint=_words(document, "Entrypoint"),
        command=_words(document, "Cmd"),
    )
    _require_sendable(defaults, document.what)
    return defaults


def _require_sendable(defaults: ImageConfig, what: str) -> None:
    words = [*map("=".join, defaults.env.items()), *defaults.entrypoint, *defaults.command]
    if any(len(word.encode()) > _WORD_MAX for word in words):
        raise ImageInvalid(f"{what}: a word of its command or environment is longer than {_WORD_MAX} bytes")
    if len(json.dumps(words)) > _DEFAULTS_MAX:
        raise ImageInvalid(f"{what}: its command and environment take more than {_DEFAULTS_MAX >> 10} KiB")


def _short(document: Document, name: str, at_most: int) -> str:
    value = document.text(name)
    if len(value.encode()) > at_most:
        raise ImageInvalid(f"{document.what}: {name!r} is longer than {at_most} bytes")
    return value


def _cwd(path: str) -> str:
    # As docker does, by the text alone: the directory may be there, or be made, only without the dots.
    return posixpath.normpath(f"/{path.lstrip('/')}") if path else ""


def _user(user: str) -> str:
    # Docker takes a group without a user for one of root's.
    return f"0{user}" if user.startswith(":") else user


def _words(document: Document, name: str) -> tuple[str, ...]:
    # A plain text is how images of the first years spell a line for the shell.
    if document.is_text(name):
        return ("/bin/sh", "-c", line) if (line := document.text(name)) else ()
    return document.texts(name)
