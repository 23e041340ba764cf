"""The shape of the code is a promise, too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aegis_sdk
from tests.conftest import ROOT

GROUND = {
    "arguments",
    "artifacts",
    "config",
    "display",
    "entries",
    "errors",
    "hints",
    "model",
    "mount",
    "packages",
    "sockets",
    "locks",
}
#: What the modules of a room may import of ours, beside the ground and their own room.
MAY_IMPORT = {
    "guest": set(),
    "drivers": set(),
    "images": set(),
    "routing": set(),
    "network": set(),
    "hookspecs": {"images", "routing"},
    "guarded": {"images", "routing"},
    "plugins": {"guarded", "hookspecs", "images", "routing"},
    "store": set(),
    "wire": set(),
    "engine": {"drivers", "guest", "images", "network", "plugins", "routing", "store", "wire"},
    "image": {"engine"},
    "app_options": {"image"},
    "instance": {"engine", "sandbox"},
    "app": {"app_options", "engine", "image", "instance"},
    "secret": {"engine"},
    "output": set(),
    "completion": {"guest", "output"},
    "place": {"engine", "guest"},
    "process": {"completion", "guest", "output", "place"},
    "files": {"engine", "guest"},
    "guest_network": {"engine"},
    "sandbox": {"completion", "engine", "files", "guest_network", "image", "output", "place", "process"},
    "task": {"engine", "image", "place", "process"},
    "awaiting": set(),
    "aio_files": {"awaiting", "files"},
    "aio": {"aio_files", "awaiting", "completion", "engine", "guest_network", "image", "output", "process", "sandbox"},
    "daemon": {"engine"},
    "doctor": {"daemon", "engine", "sandbox"},
    "notebook": {"completion", "process", "sandbox"},
}
#: The ground's own order.
GROUND_IMPORTS: dict[str, set[str]] = {
    "errors": set(),
    "arguments": {"errors"},
    "hints": set(),
    "mount": {"errors", "arguments"},
    "model": {"arguments", "display", "errors", "hints", "mount"},
    "config": {"errors"},
    "artifacts": set(),
    "packages": set(),
    "display": set(),
    "entries": set(),
    "sockets": set(),
    "locks": {"artifacts"},
}


def _imports(path: Path) -> set[str]:
    """The modules that a file imports, by their full names; lazy imports count, those for type checkers do not."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", _modules("aegis_sdk"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    """A module imports its own room, what lies below it, and the ground."""
    parts = path.relative_to(ROOT / "aegis_sdk").with_suffix("").parts
    room = parts[0]
    if room == "__init__":
        return
    ours = {name.split(".")[1] for name in _imports(path) if name.startswith("aegis_sdk.")}
    allowed = GROUND_IMPORTS[room] if room in GROUND else MAY_IMPORT[room] | GROUND
    assert ours <= allowed | {room}


def test_the_engines_interface_knows_no_implementation():
    """engine.base is the seam: it imports the ground alone."""
    ours = {name.split(".")[1] for name in _imports(ROOT / "aegis_sdk/engine/base.py") if name.startswith("aegis_sdk.")}
    assert ours <= GROUND


def test_the_cli_uses_public_names_only():
    """The command line imports the package aegis_sdk, and no module of it."""
    for path in _modules("aegis_cli"):
        assert not {name for name in _imports(path) if name.startswith("aegis_sdk.")}, path


def test_the_daemon_adds_little_to_public_names():
    """The daemon uses public names, the engine and its interface, and the ground: what it does, the SDK can do."""
    known = ({"config", "engine.base", "engine.local", "errors", "model", "wire"} | GROUND) - {"display", "entries"}
    for path in _modules("aegis_daemon"):
        for name in _imports(path):
            if name.startswith("aegis_sdk.") and name.removeprefix("aegis_sdk.") not in aegis_sdk.__all__:
                module = name.removeprefix("aegis_sdk.").removesuffix(".__version__")
                assert module == "__version__" or any(f"{module}.".startswith(f"{room}.") for room in known), path
        assert not {name for name in _imports(path) if name.partition(".")[0] == "aegis_cli"}, path


def test_the_confining_program_stands_alone():
    """confine.py runs without any package, so it imports none."""
    assert _imports(ROOT / "aegis_sdk/drivers/confine.py") <= sys.stdlib_module_names


def test_public_names():
    """What is public is a sorted list, all of it there, and nothing else comes along."""
    assert aegis_sdk.__all__ == sorted(aegis_sdk.__all__)
    for name in aegis_sdk.__all__:
        value = getattr(aegis_sdk, name)
        assert getattr(value, "__name__", name) == name
    script = "import aegis_sdk; print([n for n in vars(aegis_sdk) if not n.startswith('_')])"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert set(ast.literal_eval(said)) <= {"annotations", "importlib", "TYPE_CHECKING"}


def test_every_error_is_public_with_a_code_of_its_own():
    """Each exception is public, has its own code and stands in the tree of the module's docstring."""
    from aegis_sdk import errors

    found = {name: value for name, value in vars(errors).items() if isinstance(value, type(aegis_sdk.AegisError))}
    assert set(found) <= set(aegis_sdk.__all__)
    assert len({error.code for error in found.values()}) == len(found)
    assert all(name in (errors.__doc__ or "") for name in found)


def test_importing_is_light():
    """Importing the package imports nothing else that takes time."""
    script = "import sys; before = set(sys.modules); import aegis_sdk; print(*set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    standard = {"__future__", "importlib", "importlib._bootstrap", "importlib._bootstrap_external", "warnings"}
    assert set(found) - standard == {"aegis_sdk"}
