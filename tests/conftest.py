"""What all tests share: a home of their own, guests to work in, and the promise that nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import aegis_sdk as aegis
from aegis_sdk.engine import boot as booting

ROOT = Path(__file__).parent.parent
#: libkrun's guests are tested in a guest without KVM, where all takes so many times longer than in QEMU's.
_IN_A_GUEST = 5.0

pytest_plugins = ["tests.both_faces", "tests.engines", "tests.images_world", "tests.outside_world"]

# A slow machine is no fault of a test's.
settings.register_profile("slow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("slow")

# Who starts the suite in the background may have these ignored, and so would every program that it starts.
for _signal in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.default_int_handler if _signal is signal.SIGINT else signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--driver", choices=("qemu", "libkrun"), default="qemu", help="what boots the tests' guests")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "driver" in metafunc.fixturenames:
        metafunc.parametrize("driver", [metafunc.config.getoption("--driver")], indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--driver") == "qemu":
        return
    items[:] = [item for item in items if not item.get_closest_marker("of_qemu")]
    for item in items:
        if limit := item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(limit.args[0] * _IN_A_GUEST), append=False)


@pytest.fixture(scope="session", autouse=True)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every test, and every program that it starts, uses --driver, and a home and temporary directory of this run."""
    path, temporary = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AEGIS_HOME", str(path))
        patch.setenv("AEGIS_ROUTER_PORT", "0")  # the usual one is one for all tests
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", str(temporary))
        patch.setenv("AEGIS_DRIVER", request.config.getoption("--driver"))
        patch.setattr(booting, "_BOOT_TIMEOUT", booting._BOOT_TIMEOUT * slowness())
        for name in ("AEGIS_KERNEL", "AEGIS_LIBKRUN", "AEGIS_DEBUG", "AEGIS_HOST"):
            patch.delenv(name, raising=False)
        # What is said once for a home is said where it is tested, and not in whichever test boots first.
        (path / "data").mkdir(mode=0o700)
        (path / "data" / "software-emulation-noticed").touch()
        yield path


@pytest.fixture(scope="session")
def driver(request: pytest.FixtureRequest) -> str:
    """The driver that --driver names; in a test's parameters, so that its name says it."""
    return str(request.param)


@pytest.fixture(scope="session")
def guests(driver: str) -> Iterator[dict[str, aegis.Sandbox]]:
    """One guest of each engine for all tests that leave it as it was."""
    booted: dict[str, aegis.Sandbox] = {}
    yield booted
    for vm in booted.values():
        vm.close()


@pytest.fixture
def sandbox(guests: dict[str, aegis.Sandbox], driver: str, engine: str) -> aegis.Sandbox:
    """A guest to run commands in; a test must not end it. There is another if it has died: one test's failure only."""
    if engine not in guests or guests[engine]._engine.ending(guests[engine].id, timeout=0):
        if engine in guests:
            guests.pop(engine).close()
        guests[engine] = aegis.Sandbox(driver=driver)
    return guests[engine]


@pytest.fixture
def boot(driver: str, engine: str) -> Iterator[Callable[..., aegis.Sandbox]]:
    """Boots guests of a test's own, which end with the test."""
    made: list[aegis.Sandbox] = []

    def boot(**options: object) -> aegis.Sandbox:
        made.append(aegis.Sandbox(driver=driver, **options))  # type: ignore[arg-type]
        return made[-1]

    yield boot
    for vm in made:
        vm.close()


@pytest.fixture
def cli() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs ``aegis`` as a user does."""

    def cli(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        options = {"stdin": subprocess.DEVNULL, "timeout": 60, **options}
        if "input" in options:
            del options["stdin"]
        return subprocess.run([*AEGIS, *arguments], capture_output=True, check=False, **options)  # type: ignore[call-overload, no-any-return]

    return cli


AEGIS = (sys.executable, "-m", "aegis_cli")


def monitors() -> set[int]:
    """The processes that run a guest of this test run, or are about to: their kernel is in one of its homes."""
    ours = os.fsencode(Path(os.environ["AEGIS_HOME"]).parent)
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = _words(entry)
            except OSError:
                continue  # it has just ended
            if any(word.removeprefix(b"kernel=").startswith(ours) for word in words if b"/kernel-" in word):
                found.add(int(entry.name))
    return found


def _words(process: Path) -> list[bytes]:
    """Its command line, which cannot be seen for a moment while another program takes its place."""
    for _ in range(100):
        words = (process / "cmdline").read_bytes()
        if words or not (process / "exe").exists():  # neither do threads of the kernel have any, nor who has ended
            break
        time.sleep(0.001)
    return words.split(b"\0")


def daemons() -> set[int]:
    """The daemons of this test run: those who hold, or are about to hold, one of its homes."""
    ours = os.fsencode(Path(os.environ["AEGIS_HOME"]).parent)
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                if b"aegisd" in words or b"aegis_daemon" in words:
                    environment = (entry / "environ").read_bytes().split(b"\0")
                    if any(word.startswith(b"AEGIS_HOME=" + ours) for word in environment):
                        found.add(int(entry.name))
            except OSError:
                continue  # it has just ended, or is another user's
    return found


def listening() -> set[str]:
    """Where this process of tests, its guests and its daemons take connections and datagrams: addresses with ports."""
    ours = {os.getpid(), *monitors(), *daemons()}
    lines = subprocess.run(["ss", "-Hlntup"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[4] for line in lines if not ours.isdisjoint(map(int, re.findall(r"pid=(\d+)", line)))}


def slowness() -> float:
    """How many times longer than in QEMU's guests things may take."""
    return _IN_A_GUEST if os.environ["AEGIS_DRIVER"] == "libkrun" else 1.0


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Whether *true* came true within that time."""
    deadline = time.monotonic() + seconds * slowness()
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _descriptors() -> dict[str, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = os.readlink(entry)
        except OSError:
            continue  # the one that lists them
    return found


def _gateways() -> int:
    """How many guests have connected out, which starts a thread that they share with nobody."""
    return sum(thread.name == "aegis-gateway" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a monitor, a daemon, a descriptor, a thread, a temporary file or a blocked signal behind."""
    if "sandbox" in request.fixturenames:
        request.getfixturevalue("sandbox")
    before, served = (monitors(), len(_descriptors()), threading.active_count()), daemons()
    gateways = _gateways()
    yield
    # One that was killed and started again is another process in the same place.
    assert until(lambda: len(daemons()) <= len(served), 2), f"daemons left: {daemons() - served}"
    assert until(lambda: monitors() <= before[0], 2), f"monitors left: {monitors() - before[0]}"
    assert until(lambda: _gateways() <= max(gateways, len(monitors())), 2), "gateways without guests left"
    more = max(0, _gateways() - gateways)  # of guests that live on; each has an event loop
    assert until(lambda: len(_descriptors()) <= before[1] + 3 * more, 2), f"descriptors left: {_descriptors()}"
    assert until(lambda: threading.active_count() <= before[2] + more, 2), f"threads left: {threading.enumerate()}"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()), "signals are left blocked"
    left = os.listdir(tempfile.gettempdir())
    assert not left, f"temporary files left: {left}"


@pytest.fixture(scope="session", autouse=True)
def nothing_left_at_all(home: Path) -> Iterator[None]:
    """After the whole suite, no process of ours is left, and nothing in the home but what is kept on purpose."""
    before = monitors()
    yield
    assert until(lambda: monitors() <= before, 2)
    assert until(lambda: not daemons(), 5), f"daemons left: {daemons()}"
    kept = {path.name.partition("-")[0] for path in (home / "data" / "images").glob("*")}
    assert kept <= {"kernel", "harness", "disks", "kept", "references", "blobs"}, kept
