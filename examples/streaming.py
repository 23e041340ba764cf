"""Output as it comes, and a conversation with a running command."""

import aegis_sdk as aegis

with aegis.Sandbox() as vm:
    with vm.start("sh", "-c", "for i in 1 2 3; do echo step $i; sleep 0.3; done") as process:
        for line in process.stdout:
            print(line, end="", flush=True)
        print("exit code", process.wait())

    with vm.start("bc", stdin=True) as calculator:
        answers = iter(calculator.stdout)
        for question in ("6 * 7", "2 ^ 64"):
            calculator.write(f"{question}\n")
            print(question, "=", next(answers), end="")
