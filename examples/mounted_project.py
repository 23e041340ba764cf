"""A project in a guest that can change it, beside data that it can only read; its work is here when it is gone."""

import tempfile
from pathlib import Path

import aegis_sdk as aegis

with tempfile.TemporaryDirectory() as directory:
    project, data = Path(directory, "project"), Path(directory, "data")
    project.mkdir()
    data.mkdir()
    (data / "words").write_text("one\ntwo\nthree\n")
    (project / "count.sh").write_text("#!/bin/sh\nwc -l < /data/words > result\n")
    (project / "count.sh").chmod(0o755)

    mounts = [aegis.Mount(project, "/workspace"), aegis.Mount(data, "/data", read_only=True)]
    with aegis.Sandbox(mounts=mounts, disk=64, processes=100) as vm:
        vm.run("./count.sh", cwd="/workspace", check=True)
        refused = vm.run("rm", "/data/words")
        print("the guest:", refused.stderr.strip())
        vm.stop()

    print("its result:", (project / "result").read_text().strip())
