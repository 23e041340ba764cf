"""A command in a computer of its own."""

import aegis_sdk as aegis

with aegis.Sandbox() as vm:
    done = vm.run("echo", "hello from", vm.run("uname", "-sr").stdout.strip())
    print(done.stdout, end="")
    print(f"exit code {done.exit_code} after {done.duration:.3f} s")
