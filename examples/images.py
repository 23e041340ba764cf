"""Pull an image, see what came, and run something of it: python examples/images.py [REFERENCE]."""

from __future__ import annotations

import sys

import aegis_sdk as aegis


def show(progress: aegis.Progress) -> None:
    if progress.done == progress.total:
        print(f"layer {progress.number} of {progress.layers}: {progress.step} done, {progress.total} bytes")


reference = sys.argv[1] if len(sys.argv) > 1 else "python:3.12-alpine"
image = aegis.Image.pull(reference, policy="missing", progress=show)
print(image.reference, image.info.digest)

with aegis.Sandbox(image) as vm:
    print(vm.run("python3", "-c", "print(1 + 1)", check=True).stdout, end="")
