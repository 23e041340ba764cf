"""Which registries are reached how: their certificates' authorities, and who may be spoken to in the clear."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import attrs

from aegis_sdk.errors import RegistryFailed

_DIRECTORIES = ("/etc/containers/certs.d", "/etc/docker/certs.d")


@attrs.frozen
class Trust:
    """The TLS contexts of one user, by host; each is made once, as loading a system's authorities takes long."""

    _environ: Mapping[str, str] = attrs.field(repr=False)
    _contexts: dict[str, ssl.SSLContext] = attrs.field(factory=dict, init=False, repr=False)

    def context(self, host: str) -> ssl.SSLContext:
        """What verifies *host* (or ``HOST:PORT``): the system's authorities and those meant for that host."""
        if host not in self._contexts:
            context = self._system()
            for path in self._own(host):
                _load(context, path)
            self._contexts[host] = context
        return self._contexts[host]

    def directories(self, host: str) -> Iterator[Path]:
        """Where authorities for *host* may be put."""
        home = self._environ.get("HOME")
        for directory in (*_DIRECTORIES, *([f"{home}/.config/containers/certs.d"] if home else [])):
            yield Path(directory, host)

    def _own(self, host: str) -> Iterator[Path]:
        for directory in self.directories(host):
            yield from sorted(directory.glob("*.crt"))

    def _system(self) -> ssl.SSLContext:
        file, directory = self._environ.get("SSL_CERT_FILE") or None, self._environ.get("SSL_CERT_DIR") or None
        try:
            context = ssl.create_default_context(cafile=file, capath=directory)
        except (OSError, ValueError) as error:
            raise RegistryFailed(
                f"certificates cannot be read from {file or directory}: {error}",
                hint="mend or unset SSL_CERT_FILE and SSL_CERT_DIR",
            ) from error
        if not (file or directory or _has_authorities(context)):
            import certifi

            context.load_verify_locations(certifi.where())
        # On from Python 3.13; authorities made by hand often lack what it asks for, and docker takes them.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address without port, is this machine."""
    address, name = _address(host), host.removesuffix(".")
    return address.is_loopback if address else name == "localhost" or name.endswith(".localhost")


def is_link_local(host: str) -> bool:
    """Whether *host* is an address such as those where clouds keep what is secret to a machine."""
    address = _address(host)
    return address is not None and (address.is_link_local or address.is_unspecified or address.is_multicast)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with suppress(ValueError):
        address = ipaddress.ip_address(host.strip("[]"))
        return getattr(address, "ipv4_mapped", None) or address
    with suppress(OSError, ValueError):
        # 127.1 and 0x7f000001 are addresses, too, to whoever connects.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None


def _has_authorities(context: ssl.SSLContext) -> bool:
    # Authorities of a directory are loaded when they are needed, and until then not counted.
    directory = ssl.get_default_verify_paths().capath
    return bool(context.cert_store_stats()["x509_ca"]) or bool(directory and any(Path(directory).glob("*.0")))


def _load(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise RegistryFailed(f"{path} is no certificate that can be read: {error}", hint="mend or remove it") from error
