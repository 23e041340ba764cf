"""Where a path leads in a tree, symbolic links followed, and never out of its root."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from aegis_sdk.errors import ImageInvalid
from aegis_sdk.images.tree import Directory, Node, Symlink

PATH_MAX = 4096
NAME_MAX = 255
#: As container engines have it; Linux itself follows 40.
LINKS_MAX = 255
#: What all paths of an image may take, each name in them, and each that is gone through on the way, being a step: some
#: ten seconds. Half a million files at depth 20 take ten million for their names, and little for the ways to them.
STEPS_MAX = 20_000_000
#: How many names there may be in the paths whose ends are known.
_REMEMBERED = 1 << 16

Names = tuple[bytes, ...]


def names_of(path: bytes) -> Names:
    """The names that *path* is made of, none for the root; ImageInvalid if no entry may be called that."""
    names = tuple(name for name in path.split(b"/") if name not in (b"", b"."))
    if not path or len(path) > PATH_MAX or b"\0" in path:
        raise ImageInvalid(f"{shown(path)}: a path has 1 to {PATH_MAX} bytes and no NUL")
    if b".." in names:
        raise ImageInvalid(f"{shown(path)}: no path in an image may go up by '..'")
    if any(len(name) > NAME_MAX for name in names):
        raise ImageInvalid(f"{shown(path)}: a name is longer than {NAME_MAX} bytes")
    return names


def shown(path: bytes) -> str:
    """*path* as messages have it: printable, and not endless."""
    return repr(path[:200].decode("utf-8", "backslashreplace") + ("..." if len(path) > 200 else ""))


@attrs.define
class Paths:
    """The way from *root* to each directory; *make* puts a directory where there is none."""

    _root: Directory
    _make: Callable[[Directory, bytes], Directory]
    _steps: int = 0
    _known: dict[Names, Directory] = attrs.field(factory=dict)
    _remembered: int = 0

    def names(self, path: bytes) -> Names:
        """As ``names_of`` has them, which counts: *path* may be of thousands."""
        self._step(path.count(b"/") + 1)
        return names_of(path)

    def forget(self) -> None:
        """Know that a directory or symbolic link has gone, which ways may have led through."""
        self._known.clear()
        self._remembered = 0

    def seek(self, names: Names) -> Directory | None:
        """The directory that *names* lead to, if there is one."""
        if found := self._known.get(names):
            return found
        found, missing = self._walk(names)
        return None if missing else found

    def directory(self, names: Names) -> Directory:
        """The directory that *names* lead to, which is there afterwards."""
        if found := self._known.get(names):
            return found
        found, missing = self._walk(names)
        for name in missing:
            found = self._make(found, name)
        self._remember(names, found)
        return found

    def find(self, names: Names) -> Node | None:
        """What *names* stand for, the last one not followed; None if there is nothing."""
        parent = self.seek(names[:-1])
        return parent.entries.get(names[-1]) if parent and names else parent

    def _remember(self, names: Names, found: Directory) -> None:
        if self._remembered + len(names) > _REMEMBERED:
            self.forget()
        self._remembered += len(names)
        self._known[names] = found

    def _walk(self, names: Names) -> tuple[Directory, list[bytes]]:
        """The last directory on the way that is there, and the names of those below that are not."""
        way, missing, todo, links = [self._root], list[bytes](), list(reversed(names)), 0
        while todo:
            self._step(1)
            name = todo.pop()
            if name == b"..":
                _up(way, missing)
                continue
            node = None if missing else way[-1].entries.get(name)
            if isinstance(node, Directory):
                way.append(node)
            elif isinstance(node, Symlink):
                links += 1
                if links > LINKS_MAX:
                    raise ImageInvalid(f"{shown(b'/'.join(names))}: too many symbolic links on the way, or a loop")
                self._step(node.target.count(b"/"))  # a target of nothing but slashes and dots is to be split as well
                todo += [name for name in reversed(node.target.split(b"/")) if name not in (b"", b".")]
                del way[1 if node.target.startswith(b"/") else len(way) :]
            else:
                missing.append(name)
        return way[-1], missing

    def _step(self, count: int) -> None:
        self._steps += count
        if self._steps > STEPS_MAX:
            raise ImageInvalid("the image's paths and symbolic links are too long a way to follow")


def _up(way: list[Directory], missing: list[bytes]) -> None:
    if missing:
        missing.pop()
    elif len(way) > 1:
        way.pop()
