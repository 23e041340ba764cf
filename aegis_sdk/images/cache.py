"""The images on this machine: what references stand for, the disks made of them, the layers kept from registries."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import attrs

from aegis_sdk.artifacts import private
from aegis_sdk.errors import ImageInUse, ImageNotFound, InvalidValue
from aegis_sdk.images.base import FoundImage, Layer
from aegis_sdk.images.disks import Disk, Disks, name_of
from aegis_sdk.images.keeps import Keep, Keeps
from aegis_sdk.images.references import Record, References
from aegis_sdk.images.registry.blobs import Blobs
from aegis_sdk.images.sources import Sources
from aegis_sdk.model import ImageInfo, Progress, Pruned

Report = Callable[[Progress], None]


@attrs.frozen
class OpenImage:
    """An image whose disk stays where it is until this is closed."""

    record: Record
    disk: Disk

    def close(self) -> None:
        self.disk.close()


class ImageCache:
    """The images in *directory*, for guests of *architecture*."""

    def __init__(self, directory: Path, sources: Sources, *, architecture: str) -> None:
        self._sources = sources
        self._architecture = architecture
        self._references = References(directory / "references")
        self._keeps = Keeps(directory / "kept")
        self._disks = Disks(directory / "disks")
        self._blobs = Blobs(directory / "blobs")

    def open(self, reference: str, *, pull: str, report: Report) -> OpenImage:
        """The image that *reference* stands for, made here if need be, with its disk held for use.

        *pull* is ``always``, ``missing`` or ``never``: whether to ask a source that need not be asked each time.
        ``always`` checks the bytes of a disk that is here already, too.
        """
        source = self._sources.of(reference)
        name = source.canonical(reference)
        known = self._references.get(name) if source.remembers else None
        if known and pull != "always":
            return self._open_known(known) or self._open_again(known, pull, report)
        if source.remembers and pull == "never":
            raise ImageNotFound(f"{name} is not in the cache", hint=f"aegis image pull {name}")
        return self._take(source.find(reference, architecture=self._architecture), name, pull, report)

    def open_kept(self, reference: str, *, digest: str) -> OpenImage:
        """The image that was got by *reference* and has *digest*; ImageNotFound if it is not here any more."""
        if keep := self._keeps.find(digest):
            return self._open_known(keep.record) or self._keep_again(keep)
        record = self._record(reference, digest)
        return self._open_known(record) or self._open_again(record, "missing", _unheard)

    def keep(self, image: OpenImage, name: str, *, owner: str, why: str) -> None:
        """Have an open image stay until ``let_go``: to be opened by its digest, whatever its reference means then.

        *why* says in words what needs it; *owner* and *name* are for ``let_go``.
        """
        with self._locked(fcntl.LOCK_SH):
            self._keeps.put(Keep(name=name, owner=owner, why=why, record=image.record))

    def let_go(self, names: Iterable[str]) -> None:
        """Keep images under these names no more, and remove what no other needs; fine if one is unknown."""
        for name in names:
            self._keeps.remove(name)
        self._collect()

    def kept_by(self, owner: str) -> set[str]:
        """The names under which images are kept for *owner*, but for those in use: they are about to be kept."""
        return {
            keep.name for keep in self._keeps.all() if keep.owner == owner and not self._disks.in_use(keep.record.disk)
        }

    def import_image(self, reference: str, *, name: str, replace: bool, report: Report) -> OpenImage:
        """Keep the image of *reference* under *name* as if it had been pulled by it; *replace* what that name means."""
        keeper = self._sources.of(name)
        if not keeper.remembers or "@" in name:
            raise InvalidValue(f"{name!r} is no name to keep an image under", hint="choose one such as my-app:1.0")
        full = keeper.canonical(name)
        if self._references.get(full) and not replace:
            raise InvalidValue(f"there is an image {full} already", hint="choose another name, or replace it")
        source = self._sources.of(reference)
        if source.remembers:
            raise InvalidValue(
                f"{reference} is no image of this machine", hint="name it by oci:DIR, docker-archive:FILE or dir:PATH"
            )
        return self._take(source.find(reference, architecture=self._architecture), full, "missing", report)

    def all(self) -> tuple[ImageInfo, ...]:
        """The images, in the order of their references."""
        return tuple(self.info(record) for record in self._references.all())

    def get(self, reference: str) -> ImageInfo:
        """The image that *reference* stands for here; ImageNotFound if it stands for none."""
        return self.info(self._record(reference))

    def info(self, record: Record) -> ImageInfo:
        """The image of *record*, with what it takes here."""
        return ImageInfo(
            reference=record.reference,
            digest=record.digest,
            architecture=record.architecture,
            config=record.config,
            created=record.created,
            layers=record.layers,
            pulled=record.pulled,
            used=self._references.used(record.reference),
            disk_bytes=self._disks.size(record.disk),
            layer_bytes=sum(self._blobs.size_on_disk(blob) for blob in record.blobs),
        )

    def remove(self, reference: str, *, digest: str) -> None:
        """Forget *reference*, and remove what no other needs; ImageInUse if a sandbox or a wish to keep it does."""
        record = self._record(reference, digest)
        others = [other for other in self._references.all() if other.reference != record.reference]
        if record.disk not in {other.disk for other in others}:
            self._check_unused(record)
        self._references.remove(record.reference)
        self._collect()

    def prune(self, *, older_than: float | None, unused: bool) -> Pruned:
        """Remove what no reference leads to, but nothing that a pull under way may need.

        Also, with *unused*, images that no sandbox uses; with *older_than*, those not used for that many seconds.
        """
        removed = []
        if unused or older_than is not None:
            latest = time.time() - (older_than or 0)
            kept = {keep.record.disk for keep in self._keeps.all()}
            for record in self._references.all():
                used = record.disk in kept or self._disks.in_use(record.disk)
                if self._references.used(record.reference) <= latest and not used:
                    self._references.remove(record.reference)
                    removed.append(record.reference)
        return Pruned(images=tuple(removed), bytes=self._collect(partials=True))

    def _check_unused(self, record: Record) -> None:
        if keep := self._keeps.find(record.digest):
            raise ImageInUse(f"{keep.why} needs {record.reference}", hint="it goes when its app is deleted")
        if self._disks.in_use(record.disk):
            raise ImageInUse(f"a running sandbox uses {record.reference}", hint="close the sandbox first")

    def _kept(self) -> Iterator[Record]:
        return (keep.record for keep in self._keeps.all())

    def _record(self, reference: str, digest: str | None = None) -> Record:
        # As it is written first: the plugin that claims it may be gone.
        name = reference if self._references.get(reference) else self._sources.of(reference).canonical(reference)
        if record := self._references.get(name):
            if digest in (None, record.digest):
                return record
            raise ImageNotFound(f"{name} is another image by now, {record.digest}", hint="get it anew")
        raise ImageNotFound(f"{name} is not in the cache", hint="aegis image list shows what is")

    def _open_known(self, record: Record) -> OpenImage | None:
        held = self._disks.open(record.disk)
        if held is None:
            return None
        self._references.touch(record.reference)
        return OpenImage(record, held)

    def _open_again(self, record: Record, pull: str, report: Report) -> OpenImage:
        """The image of *record*, whose disk is gone or damaged."""
        if pull == "never":
            raise ImageNotFound(
                f"the disk of {record.reference} is damaged, and was not to be made again from {record.pinned}",
                hint="let it be pulled when it is missing",
            )
        return self._take(self._same(record), record.reference, pull, report)

    def _keep_again(self, keep: Keep) -> OpenImage:
        """The image of *keep*, whose disk is gone or damaged; its reference may mean another one by now."""
        found = self._same(keep.record)
        record = attrs.evolve(keep.record, disk=name_of(found.layers), blobs=found.blobs)
        with self._locked(fcntl.LOCK_SH):
            held = self._made(record.disk, found, _unheard, keep.record)
            if record != keep.record:
                self._keeps.put(attrs.evolve(keep, record=record))
        return OpenImage(record, held)

    def _same(self, record: Record) -> FoundImage:
        """The image of *record* once more from its source: that very one, not what its tag means by now."""
        try:
            found = self._sources.of(record.pinned).find(record.pinned, architecture=self._architecture)
        except ImageNotFound as error:
            seen = f"the disk of {record.reference} is damaged, and {record.pinned}, of which it was made, is gone"
            raise ImageNotFound(seen, hint="pull it, or import it again") from error
        if found.digest != record.digest:
            seen = f"the disk of {record.reference} is damaged, and {record.pinned} is another image by now"
            raise ImageNotFound(seen, hint="pull it, or import it again")
        return found

    def _take(self, found: FoundImage, name: str, pull: str, report: Report) -> OpenImage:
        """Have *found* here under the full reference *name*."""
        key = name_of(found.layers)
        previous = self._references.get(name)
        with ExitStack() as undo:
            with self._locked(fcntl.LOCK_SH):  # what is being made has no name yet that would keep it
                if pull == "always":
                    self._disks.verify(key)
                held = self._made(key, found, report, previous)
                undo.callback(held.close)
                record = Record.of(found, reference=name, disk=key, pulled=time.time())
                if previous is None or pull == "always" or attrs.evolve(previous, pulled=record.pulled) != record:
                    self._references.put(record)
                self._references.touch(name)
            if previous and (previous.disk, previous.blobs) != (record.disk, record.blobs):
                self._collect()
            undo.pop_all()
        return OpenImage(record, held)

    def _made(self, key: str, found: FoundImage, report: Report, previous: Record | None) -> Disk:
        """The disk of that name, for an image that has all that is on it."""
        # Whoever names another image's layers without having them must not get that image's disk.
        records = chain(filter(None, [previous]), self._references.all(), self._kept())
        known = any((record.disk, record.digest) == (key, found.digest) for record in records)
        if (held := self._disks.open(key)) and not known:
            try:
                _read(found.layers, report)
            except BaseException:
                held.close()
                raise
        return held or self._disks.make(key, partial(_write, layers=found.layers, progress=report))

    def _collect(self, *, partials: bool = False) -> int:
        """Remove what no reference leads to, unless something is being made just now; the bytes that this frees.

        Downloads that were broken off lately stay, for the next pull to go on with, unless *partials* are to go, too.
        """
        freed = 0
        with suppress(BlockingIOError), self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            if not (self._references.sweep() and self._keeps.sweep()):
                return 0
            records = [*self._references.all(), *self._kept()]
            for name in set(self._disks.names()) - {record.disk for record in records}:
                with suppress(ImageInUse):
                    freed += self._disks.remove(name)
            freed += self._blobs.keep_only({blob for record in records for blob in record.blobs})
            if partials:
                freed += self._blobs.discard_partials(unchanged_for=0)
        return freed

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        directory = self._references.directory
        handle = os.open(private(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)


def _unheard(_: Progress) -> None:
    """Take what nobody has asked for."""


# What reads and writes layers is not needed to boot from a disk.
def _write(out: BinaryIO, layers: Sequence[Layer], progress: Report) -> None:
    from aegis_sdk.images.layers import disk

    disk.write(out, layers, progress)


def _read(layers: Sequence[Layer], progress: Report) -> None:
    from aegis_sdk.images.layers import disk

    disk.read(layers, progress)
