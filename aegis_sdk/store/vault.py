"""The keys that secrets are encrypted with, and the file that they are in."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs

from aegis_sdk.artifacts import private
from aegis_sdk.errors import StoreFailed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_TITLE = "aegis master key 1"
_LINE = re.compile(r"[0-9a-f]{64}")
_MOST = 1 << 20  # bytes of a key file: far more keys than there ever are


class Tampered(Exception):
    """What is stored is not what was encrypted with this key for this place."""


@attrs.frozen
class Sealed:
    """An encrypted value, and the ID of the key that opens it."""

    key: str
    nonce: bytes
    ciphertext: bytes


@attrs.frozen
class Key:
    """A key for AES-256-GCM."""

    material: bytes = attrs.field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """One that nobody knows."""
        return cls(os.urandom(32))

    @property
    def id(self) -> str:
        """What tells it from other keys, and tells nothing of it."""
        return hashlib.sha256(b"aegis key id\0" + self.material).hexdigest()[:16]

    def seal(self, value: bytes, *, place: bytes) -> Sealed:
        """*value*, encrypted for *place*: anywhere else it does not open."""
        nonce = os.urandom(12)
        return Sealed(self.id, nonce, self._cipher().encrypt(nonce, value, place))

    def open(self, sealed: Sealed, *, place: bytes) -> bytes:
        """What was sealed for *place*; Tampered."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher().decrypt(sealed.nonce, sealed.ciphertext, place)
        except (InvalidTag, ValueError) as error:  # the latter for a nonce that cannot be one
            raise Tampered from error

    def _cipher(self) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self.material)


@attrs.frozen
class KeyFile:
    """The file of the keys, for this user alone: the one to encrypt with first, then those that are being replaced.

    Who changes it holds the database's write lock meanwhile.
    """

    path: Path

    def read(self) -> tuple[Key, ...]:
        """The keys in it, none if it is not there; StoreFailed if it is damaged, or not for us alone."""
        text = self._text()
        if text and (keys := _parsed(text)):
            return keys
        if text is None:
            return ()
        raise StoreFailed(
            f"{self.path} is damaged, or no key file of Aegis",
            hint="put a copy of yours there, or set each secret again",
        )

    def current(self) -> Key:
        """The key to encrypt with: made, and on the disk, if there was none. What is no key file is put aside."""
        text = self._text()
        if text and (keys := _parsed(text)):
            return keys[0]
        if text is not None:
            with self._writing():
                self._real().rename(self._beside("damaged"))
        key = Key.new()
        self.write((key,))
        return key

    def write(self, keys: Iterable[Key]) -> None:
        """Put *keys* in the place of what is there: at once, and on the disk when this returns."""
        text = "\n".join((_TITLE, *(key.material.hex() for key in keys), ""))
        with self._writing():
            self._replace(text.encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "free some space, or see to it that this user may write there"
            raise StoreFailed(f"the key file {self.path} cannot be written: {error.strerror}", hint=hint) from error

    def _replace(self, text: bytes) -> None:
        private(self.path.parent)
        partial = self._beside("new")
        partial.unlink(missing_ok=True)  # left by a process that was killed
        try:
            _write(partial, text)
            partial.rename(self._real())
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        directory = os.open(partial.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _real(self) -> Path:
        # Somebody may keep it elsewhere, and have a link here.
        return Path(os.path.realpath(self.path))

    def _beside(self, ending: str) -> Path:
        real = self._real()
        return real.with_name(f"{real.name}.{ending}")

    def _text(self) -> bytes | None:
        try:
            with open(self.path, "rb", opener=_at_once) as file:
                self._for_us_alone(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
                return file.read(_MOST) or b""
        except FileNotFoundError:
            return None
        except OSError as error:
            hint = "see to it that this user may read it"
            raise StoreFailed(f"the key file {self.path} cannot be read: {error.strerror}", hint=hint) from error

    def _for_us_alone(self, mode: int) -> None:
        if mode & 0o077:
            name = shlex.quote(str(self.path))
            raise StoreFailed(
                f"the key file {self.path} is open to other users (mode {mode:o}), and so is not used",
                hint=f"chmod 600 {name}; if somebody may have read it, also `aegis secret rotate-key`",
            )


def _at_once(path: str, flags: int) -> int:
    """The file, or whatever is in its place: with a pipe, that nobody writes to is no reason to wait."""
    return os.open(path, flags | os.O_NONBLOCK)


def _write(path: Path, text: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _parsed(text: bytes) -> tuple[Key, ...]:
    """The keys in what a key file holds; none if it is no key file."""
    title, *lines = text.decode("ascii", "replace").split("\n")
    if title != _TITLE or len(lines) < 2 or lines.pop() or not all(map(_LINE.fullmatch, lines)):
        return ()
    return tuple(Key(bytes.fromhex(line)) for line in lines)
