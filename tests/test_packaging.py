import os
import shutil
import struct
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MACHINES = {"amd64": 62, "arm64": 183}  # e_machine of the ELF header
PT_INTERP = 3

# A cold Go cache costs a minute on a slow machine.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def checkout(tmp_path):
    """A copy of the sources that no build has touched."""
    made = shutil.ignore_patterns(".*", "_harness", "build", "dist", "__pycache__")
    copy = shutil.copytree(ROOT, tmp_path / "checkout", ignore=made)
    shutil.copy(ROOT / ".gitignore", copy)
    return copy


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """A source distribution of this checkout, and the wheel that an isolated build makes of it."""
    out = tmp_path_factory.mktemp("dist")
    done = python("-m", "build", "--outdir", out, ROOT)
    assert done.returncode == 0, done.stdout
    return out


@pytest.fixture(scope="module")
def wheel(distributions):
    return next(distributions.glob("*.whl"))


def python(*args, program=sys.executable, cwd=None):
    go_cache = {"GOCACHE": str(ROOT / "build/go-cache")}
    bare = {"PATH": "/usr/bin:/bin"}  # so that no Go of this machine helps
    return subprocess.run(
        [program, *args],
        cwd=cwd,
        env=os.environ | go_cache | bare,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def compile_harness(checkout):
    return python("-m", "hatchling", "build", "--target", "wheel", "--hooks-only", cwd=checkout)


def built(checkout):
    """What tells one build of the harness from another."""
    return {arch: (checkout / "aegis_sdk/_harness" / arch / "init").stat().st_mtime_ns for arch in MACHINES}


def segment_types(elf):
    offset, size, count = (*struct.unpack_from("<Q", elf, 32), *struct.unpack_from("<HH", elf, 54))
    return [struct.unpack_from("<I", elf, offset + i * size)[0] for i in range(count)]


@pytest.mark.network
def test_wheel_is_for_every_platform(wheel):
    """One wheel serves all hosts: the programs in it are the guest's."""
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.network
def test_wheel_holds_what_a_user_needs(wheel):
    """All packages, the harness and the type marker are in the wheel; tests and build leftovers are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= {f"aegis_sdk/_harness/{arch}/init" for arch in MACHINES} | {"aegis_sdk/py.typed"}
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"aegis_sdk", "aegis_cli", "aegis_daemon"}
    assert "aegis_sdk/_harness/stamp" not in names


@pytest.mark.network
@pytest.mark.parametrize("arch", MACHINES)
def test_harness_is_a_static_program_for_its_machine(wheel, arch):
    """The harness needs no loader, so it runs in a guest that holds nothing else."""
    elf = zipfile.ZipFile(wheel).read(f"aegis_sdk/_harness/{arch}/init")
    assert elf[:5] == b"\x7fELF\x02"
    assert struct.unpack_from("<H", elf, 18)[0] == MACHINES[arch]
    assert PT_INTERP not in segment_types(elf)


@pytest.mark.network
def test_wheel_works_away_from_the_checkout(wheel, tmp_path):
    """A wheel installed by pip imports and has its command and harness, without the sources."""
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv/bin"
    done = python("-m", "pip", "install", wheel, program=programs / "python")
    assert done.returncode == 0, done.stdout
    show = "import aegis_sdk, pathlib as p; print(*p.Path(aegis_sdk.__file__).parent.glob('_harness/*/init'))"
    done = python("-I", "-c", show, program=programs / "python", cwd=tmp_path)
    harness = [Path(path) for path in done.stdout.split()]
    assert sorted(path.parent.name for path in harness) == sorted(MACHINES), done.stdout
    assert all(path.is_relative_to(tmp_path) for path in harness)
    assert (programs / "aegis").exists()
    assert python("--version", program=programs / "aegisd", cwd=tmp_path).stdout.startswith("aegisd ")


@pytest.mark.network
def test_harness_is_reproducible(wheel, checkout):
    """The same sources give the same bytes, wherever they are built."""
    assert compile_harness(checkout).returncode == 0
    for arch in MACHINES:
        path = f"aegis_sdk/_harness/{arch}/init"
        assert (checkout / path).read_bytes() == zipfile.ZipFile(wheel).read(path)


def test_only_a_changed_harness_is_built_again(checkout):
    """A build leaves an unchanged harness alone, tests included, and notices every change."""
    assert compile_harness(checkout).returncode == 0
    first = built(checkout)
    (checkout / "guest_harness/new_test.go").write_text("package main\n")
    assert compile_harness(checkout).returncode == 0
    assert built(checkout) == first
    (checkout / "guest_harness/new.go").write_text("package main\n")
    assert compile_harness(checkout).returncode == 0
    assert all(built(checkout)[arch] != first[arch] for arch in MACHINES)


def test_broken_harness_fails_with_what_go_says(checkout):
    """An error of the compiler is shown, fails the build and leaves the harness before it whole."""
    assert compile_harness(checkout).returncode == 0
    before = built(checkout)
    (checkout / "guest_harness/broken_linux_arm64.go").write_text("package main\n\nvar x int = true\n")
    done = compile_harness(checkout)
    assert done.returncode != 0
    assert "broken_linux_arm64.go:3:13: cannot use true" in done.stdout
    assert "Traceback" not in done.stdout
    assert built(checkout) == before
