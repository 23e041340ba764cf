"""Files into a guest, work on them there, and back."""

import tempfile
from pathlib import Path

import aegis_sdk as aegis

with aegis.Sandbox() as vm, tempfile.TemporaryDirectory() as here:
    Path(here, "project").mkdir()
    Path(here, "project", "words.txt").write_text("the\nquick\nfox\n")

    vm.files.upload(Path(here, "project"), "/workspace/project")
    vm.shell("cd /workspace/project; wc -l < words.txt > counted.txt; sort -o words.txt words.txt", check=True)
    print(vm.files.read_text("/workspace/project/counted.txt").strip(), "words")
    with vm.files.open("/workspace/project/words.txt") as words:
        for word in words:
            print(word, end="")

    vm.files.download("/workspace/project", Path(here, "back"))
    print(sorted(path.name for path in Path(here, "back").iterdir()), "came back")

    with vm.files.watch("/workspace") as changes:
        vm.files.mkdir("/workspace/new")
        change = next(changes)
        print(change.kind, change.path)
