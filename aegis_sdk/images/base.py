"""What an image source is, and what it gives: the seam for plugins."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import attrs

from aegis_sdk.images.tree import Metadata
from aegis_sdk.model import Check, ImageConfig


class Kind(enum.Enum):
    """What an entry of a layer is; the values are the names that tar's documentation uses."""

    FILE = "regular file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    FIFO = "fifo"
    SOCKET = "socket"


@attrs.frozen(kw_only=True, eq=False)
class Entry:
    """One name that a layer adds, changes or, by a name that starts with ``.wh.``, removes.

    *path* is as the layer spells it; whoever merges layers checks it. *content* is a file's bytes, which must be taken
    before the next entry is asked for, and *size* is how many they are. *target* is what a symbolic link says, or the
    path that a hard link shares. *device* is major and minor number.
    """

    path: bytes
    kind: Kind
    metadata: Metadata = attrs.field(factory=Metadata)
    content: Iterable[bytes] = ()
    size: int = 0
    target: bytes = b""
    device: tuple[int, int] = (0, 0)


class Layer(Protocol):
    """One set of changes to a tree of files."""

    @property
    def digest(self) -> str:
        """A name for what the layer holds: equal names, equal entries. For tar layers the OCI DiffID."""

    @property
    def size(self) -> int:
        """How many bytes ``fetch`` reports and ``entries`` reads, as far as known; for progress and limits."""

    def fetch(self, report: Callable[[int], None]) -> None:
        """Have the layer's bytes here, verified; *report* takes the number of bytes present so far, and may raise.

        Called in a thread; layers are fetched several at a time, and read in their order afterwards.
        """

    def entries(self) -> Iterator[Entry]:
        """What the layer says, in its order; ImageInvalid if it is not what its digest names."""


@attrs.frozen(kw_only=True)
class FoundImage:
    """What a reference stands for: nothing of its layers has been fetched yet.

    *reference* is its full, unambiguous spelling, *digest* names the image (``sha256:...``), *created* is as the image
    says (RFC 3339). *layers* are in their order, the lowest first. *pinned* is a reference that leads to this very
    image also when *reference* means another by then; *blobs* are digests of what its source keeps in the blob store.
    """

    reference: str
    digest: str
    architecture: str
    config: ImageConfig
    layers: tuple[Layer, ...]
    created: str = ""
    pinned: str = ""
    blobs: tuple[str, ...] = ()


class ImageSource(Protocol):
    """Finds images by the references that it claims."""

    @property
    def name(self) -> str:
        """What it is called in lists and messages."""

    @property
    def remembers(self) -> bool:
        """Whether what a reference stood for is good until the user asks anew: true for what comes over a network."""

    def claims(self, reference: str) -> bool:
        """Whether *reference* is for this source; cheap, and without I/O."""

    def canonical(self, reference: str) -> str:
        """The full, unambiguous spelling of *reference*; InvalidValue says what is wrong with it."""

    def find(self, reference: str, *, architecture: str) -> FoundImage:
        """The image for guests of *architecture* (Go's name, such as ``amd64``).

        ImageNotFound if there is none, ArchitectureNotFound if it exists for others only.
        """

    def check(self) -> tuple[Check, ...]:
        """What this source needs here, each thing with what was found."""
