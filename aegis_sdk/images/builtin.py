"""The image sources that come with Aegis, each imported when it is first needed."""

from __future__ import annotations

from aegis_sdk.config import Config
from aegis_sdk.images.base import ImageSource

#: The word before the first colon of the references to what is on this machine.
SCHEMES = ("base", "oci", "docker-archive", "dir")


def local(scheme: str, config: Config) -> ImageSource:
    """The source of what is on this machine, by one of the SCHEMES."""
    match scheme:
        case "base":
            from aegis_sdk.images.local.busybox import BaseImage

            return BaseImage()
        case "oci":
            from aegis_sdk.images.local.layout import OciLayout

            return OciLayout()
        case "docker-archive":
            from aegis_sdk.images.local.archive import DockerArchive

            return DockerArchive(config.images)
        case "dir":
            from aegis_sdk.images.local.directory import HostDirectory

            return HostDirectory()
    raise KeyError(scheme)


def registry(config: Config) -> ImageSource:
    """The source of all that is in a registry: it claims whatever reads as a reference."""
    from aegis_sdk.images.registry.source import RegistrySource

    return RegistrySource(config.images / "blobs", environ=config.environ, plain_http=config.plain_http)
