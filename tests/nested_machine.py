"""A machine with a working /dev/kvm, over this machine's own files: what a command writes there is thrown away.

    python -m tests.nested_machine COMMAND...

The command runs as root in the current directory; its output is passed on, its exit code is returned. 124: it took too
long; 125: it died, or there is none to be had. AEGIS_KERNEL should name a kernel older than 6.14: see
scripts/test-libkrun.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import aegis_sdk as aegis

_MEMORY = 4000
_LIMIT = 3000.0
_TIMED_OUT, _DIED = 124, 125
_ATTEMPTS = 2
_PASSED_ON = ("HOME", "LANG", "PATH", "TERM")

# Our own tree's /dev is the same file system as the new one's, so its links and mount points are there already.
_MACHINE = """
set -e
machine=/mnt/machine; root=$machine/root
mkdir -p $machine
mount -t tmpfs -o size=60% tmpfs $machine
mkdir $machine/upper $machine/work $root
mount -t overlay -o lowerdir=/mnt/host,upperdir=$machine/upper,workdir=$machine/work overlay $root
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
mount -t devtmpfs devtmpfs $root/dev
mount -t devpts -o ptmxmode=666 devpts $root/dev/pts
mount -t tmpfs -o mode=1777 tmpfs $root/dev/shm
mount -t tmpfs -o mode=755 tmpfs $root/run
exec chroot $root /bin/sh -c 'cd "$0" && exec "$@"' "$@"
"""


def main(command: Sequence[str]) -> int:
    """Run *command* in there; once more if the machine does not come up, which is QEMU's fault and rare."""
    for _ in range(_ATTEMPTS):
        try:
            return _run(command)
        except aegis.BootFailed as error:
            _say(str(error))
        except aegis.AegisError as error:
            _say(str(error))
            break
    return _DIED


def _run(command: Sequence[str]) -> int:
    start = time.monotonic()
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    mounts = [aegis.Mount("/", "/mnt/host", read_only=True)]
    with (
        aegis.Sandbox(driver="qemu", nested=True, memory=_MEMORY, writable=True, mounts=mounts) as vm,
        vm.start("sh", "-c", _MACHINE, "sh", str(Path.cwd()), *command, env=env) as process,
    ):
        _say(f"up after {time.monotonic() - start:.1f} s, on Linux {vm.info().kernel}")
        try:
            for stream, piece in process.output(_LIMIT):
                _write({"stdout": 1, "stderr": 2}[stream], piece)
            return process.wait()
        except TimeoutError as error:
            if isinstance(error, aegis.AegisError):
                raise
            _say(f"no end after {_LIMIT:.0f} s")
            return _TIMED_OUT


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _say(text: str) -> None:
    sys.stderr.write(f"nested machine: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
