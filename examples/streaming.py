"""Output as it comes, a conversation with a running command, and one at a terminal."""

import aegis_sdk as aegis

with aegis.Sandbox() as vm:
    with vm.start("sh", "-c", "for i in 1 2 3; do echo step $i; sleep 0.3; done") as process:
        for line in process.stdout:
            print(line, end="", flush=True)
        print("exit code", process.wait())

    done = vm.run(
        *("sh", "-c", "echo working; sleep 0.3; echo careful >&2; exit 3"),
        on_stdout=lambda text: print("said:", text, end="", flush=True),
        on_stderr=lambda text: print("warned:", text, end="", flush=True),
    )
    print("exit code", done.exit_code, "and in all", repr(done.stdout))

    with vm.start("bc", stdin=True) as calculator:
        for question in ("6 * 7", "2 ^ 64"):
            calculator.write(f"{question}\n")
            print(question, "=", calculator.stdout.readline(), end="")

    with vm.start("sh", "-c", "stty -echo; stty size; sleep 100", tty=(50, 132)) as terminal:
        print("a terminal of", terminal.stdout.readline().strip())
        terminal.write(b"\x03")  # Ctrl-C
        print("exit code", terminal.wait())
