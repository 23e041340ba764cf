"""Every exception of Aegis, one tree.

AegisError
├── InvalidValue               an argument cannot be meant (also a ValueError)
├── Unavailable                this machine lacks something that Aegis needs
│   ├── DriverUnavailable      nothing here can boot a microVM
│   ├── KernelNotFound         no guest kernel
│   ├── HarnessNotFound        Aegis was installed without its guest harness
│   ├── DaemonUnavailable      no daemon answers, or one that cannot be understood
│   └── StoreFailed            what Aegis keeps on disk cannot be read or written
├── NotFound                   there is nothing of that name or ID
│   ├── SandboxNotFound        ... no sandbox
│   ├── TaskNotFound           ... no task
│   ├── AppNotFound            ... no app
│   ├── ReleaseNotFound        ... no release of an app
│   └── SecretNotFound         ... no secret
├── NameTaken                  there is something of that name already
├── PortTaken                  something else listens on a port of this machine
├── SecretUnreadable           a secret cannot be decrypted: its key is gone, or another one, or it was tampered with
├── ImageNotFound              there is no such image: no source claims the reference, or it is not there
│   └── ArchitectureNotFound   ... for this machine's architecture
├── ImageInUse                 a running sandbox uses the image
├── ImageFailed                the image's disk could not be made
│   ├── ImageInvalid           ... because the image is broken, lies, or exceeds a limit
│   └── RegistryFailed         ... because its registry cannot be reached, or answers with an error
│       └── RegistryDenied     ... or wants credentials that are not there or not right
├── BootFailed                 a guest did not come up: which step, what was seen
│   └── BootTimedOut           ... because it did not answer in time (also a TimeoutError)
├── GuestDied                  a guest ended under a caller's hands
├── GuestNotResponding         a guest is there and does not answer (also a TimeoutError)
├── ProtocolViolation          a guest spoke nonsense and was ended
├── NotServed                  an app has nothing that serves it
├── ServerFailed               what serves an app did not become ready, or ended
├── TaskFailed                 a task has ended without its command's exit: it failed, timed out or was cancelled
├── SandboxClosed              the sandbox was closed before or during the call
├── InputClosed                the command no longer takes input (also a BrokenPipeError)
├── OutputNotRead              a command's unread output has reached its bound
├── FileFailed                 something could not be done with a file (also an OSError, with errno and filename)
│   ├── FileMissing            ... because it is not there (also a FileNotFoundError)
│   ├── FileExists             ... because there is something in its place (also a FileExistsError)
│   ├── FileDenied             ... because the user may not (also a PermissionError)
│   ├── NotDirectory           ... because it is no directory (also a NotADirectoryError)
│   ├── IsDirectory            ... because it is a directory (also an IsADirectoryError)
│   ├── DirectoryNotEmpty      ... because something is in it
│   ├── NoSpace                ... because its file system is full
│   └── ReadOnlyFiles          ... because its file system is read-only
├── LimitExceeded              contents are more than the caller's limit
└── CommandFailed              a command failed and the caller asked for an exception
    └── CommandTimedOut        ... because it ran out of time (also a TimeoutError)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from aegis_sdk.model import Completed


class AegisError(Exception):
    """What went wrong, in *message*, and what to do about it, in *hint* (empty if nothing helps)."""

    code: ClassVar[str] = "aegis-error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class InvalidValue(AegisError, ValueError):
    """An argument that cannot be meant: out of range, empty, or with a byte that no system takes."""

    code = "invalid-value"


class Unavailable(AegisError):
    """This machine lacks something that Aegis needs; the hint is the command that installs it."""

    code = "unavailable"


class DriverUnavailable(Unavailable):
    """The driver asked for, or every driver, cannot boot a microVM on this machine."""

    code = "driver-unavailable"


class KernelNotFound(Unavailable):
    """No guest kernel was found."""

    code = "kernel-not-found"


class HarnessNotFound(Unavailable):
    """The installed package carries no guest harness for this architecture."""

    code = "harness-not-found"


class DaemonUnavailable(Unavailable):
    """No daemon answers where one is expected, or what answers cannot be understood."""

    code = "daemon-unavailable"


class StoreFailed(Unavailable):
    """What Aegis keeps on disk (records, logs, the key) cannot be read or written."""

    code = "store-failed"


class NotFound(AegisError):
    """There is nothing of that name or ID."""

    code = "not-found"


class SandboxNotFound(NotFound):
    """There is no sandbox of that name or ID."""

    code = "sandbox-not-found"


class TaskNotFound(NotFound):
    """There is no task with that ID."""

    code = "task-not-found"


class AppNotFound(NotFound):
    """There is no app of that name or ID."""

    code = "app-not-found"


class ReleaseNotFound(NotFound):
    """There is no release of that label or ID, or none at all."""

    code = "release-not-found"


class SecretNotFound(NotFound):
    """There is no secret of that name."""

    code = "secret-not-found"


class NameTaken(AegisError):
    """There is something of that name already."""

    code = "name-taken"


class PortTaken(AegisError):
    """Something else listens on the port of this machine that was to be listened on."""

    code = "port-taken"


class SecretUnreadable(AegisError):
    """A secret cannot be decrypted: its key is gone, or is another one, or what is stored was tampered with."""

    code = "secret-unreadable"


class ImageNotFound(AegisError):
    """There is no such image: no source claims the reference, or the one that does has nothing there."""

    code = "image-not-found"


class ArchitectureNotFound(ImageNotFound):
    """The image exists, but not for this machine's architecture."""

    code = "architecture-not-found"


class ImageInUse(AegisError):
    """A running sandbox uses the image that was to be removed."""

    code = "image-in-use"


class ImageFailed(AegisError):
    """The disk of an image could not be made."""

    code = "image-failed"


class ImageInvalid(ImageFailed):
    """The image is broken, is not what its digest says, or exceeds a limit."""

    code = "image-invalid"


class RegistryFailed(ImageFailed):
    """A registry cannot be reached, or answers with an error, also after several tries."""

    code = "registry-failed"


class RegistryDenied(RegistryFailed):
    """A registry wants credentials that are not there or not right."""

    code = "registry-denied"


class BootFailed(AegisError):
    """A guest did not come up; the message names the step and what was seen."""

    code = "boot-failed"


class BootTimedOut(BootFailed, TimeoutError):
    """A guest was started and its harness did not answer in time."""

    code = "boot-timed-out"


class GuestDied(AegisError):
    """A guest ended under a caller's hands; the message ends with the last lines of its console."""

    code = "guest-died"


class GuestNotResponding(AegisError, TimeoutError):
    """A guest is there and does not answer."""

    code = "guest-not-responding"


class ProtocolViolation(AegisError):
    """A guest broke the protocol between harness and host, and was ended for it."""

    code = "protocol-violation"


class SandboxClosed(AegisError):
    """The sandbox was closed before or during the call."""

    code = "sandbox-closed"


class NotServed(AegisError):
    """An app has nothing that serves it now."""

    code = "not-served"


class ServerFailed(AegisError):
    """What serves an app did not become ready, or ended; the message says what was seen, and what it printed last."""

    code = "server-failed"


class TaskFailed(AegisError):
    """A task has ended without its command's exit; the message is the reason."""

    code = "task-failed"


class InputClosed(AegisError, BrokenPipeError):
    """The command has ended or its standard input was closed."""

    code = "input-closed"


class OutputNotRead(AegisError):
    """One stream of a command was waited for while the unread rest of another reached its bound."""

    code = "output-not-read"


class FileFailed(AegisError, OSError):
    """Something could not be done with a file; *errno* and *filename* are those of an OSError."""

    code = "file-failed"

    def __init__(self, message: str, *, hint: str = "", number: int | None = None, path: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno, self.filename, self.strerror = number, path, message


class FileMissing(FileFailed, FileNotFoundError):
    """There is no such file or directory."""

    code = "file-missing"


class FileExists(FileFailed, FileExistsError):
    """There is something in the place of what was to be made."""

    code = "file-exists"


class FileDenied(FileFailed, PermissionError):
    """The user who asked, or anybody, may not do that with the file."""

    code = "file-denied"


class NotDirectory(FileFailed, NotADirectoryError):
    """What is there is no directory."""

    code = "not-directory"


class IsDirectory(FileFailed, IsADirectoryError):
    """What is there is a directory."""

    code = "is-directory"


class DirectoryNotEmpty(FileFailed):
    """A directory was to be removed or replaced, and something is in it."""

    code = "directory-not-empty"


class NoSpace(FileFailed):
    """The file system is full."""

    code = "no-space"


class ReadOnlyFiles(FileFailed):
    """The file system is read-only, as a guest's root is unless it was asked to be writable."""

    code = "read-only-files"


class LimitExceeded(AegisError):
    """Contents, or the number of files, are more than the caller's limit."""

    code = "limit-exceeded"


class CommandFailed(AegisError):
    """A command failed under ``check=True``; *result* is what it left."""

    code = "command-failed"

    def __init__(self, message: str, *, hint: str = "", result: Completed) -> None:
        super().__init__(message, hint=hint)
        self.result = result


class CommandTimedOut(CommandFailed, TimeoutError):
    """A command was ended under ``check=True`` because its time was up."""

    code = "command-timed-out"
