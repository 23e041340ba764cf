"""Cells of a notebook that run in its sandbox."""

from __future__ import annotations

import re
import time

import pytest

pytestmark = pytest.mark.timeout(120)  # a kernel takes a while to start, and a guest, too

GONE = "%%aegis\nfor i in $(seq 100); do ps | grep -q '[s]leep {}' || exit 0; sleep 0.1; done; exit 1"


def test_both_streams(cells):
    """A cell is a shell script, and its two streams are shown apart, in the order in which they came."""
    ran = cells.run("%%aegis\necho one\nsleep 0.3\necho two >&2\nsleep 0.3\necho $((1 + 2))")
    assert (ran.stdout, ran.stderr, ran.error) == ("one\n3\n", "two\n", ("", ""))
    assert [each["text"] for each in ran.outputs] == ["one\n", "two\n", "3\n"]


def test_output_comes_as_it_is_written(cells):
    """What a cell writes is shown while it runs, also without a newline."""
    ran = cells.interrupt("%%aegis\nprintf begun\nsleep 1000", after="begun")  # which waits for it
    assert (ran.stdout, ran.error) == ("begun", ("KeyboardInterrupt", "KeyboardInterrupt"))


def test_characters_that_come_in_pieces(cells):
    """A character whose bytes come apart is one character, and what is no UTF-8 is shown as such."""
    ran = cells.run(r"""%%aegis
printf '\303'; sleep 0.3; printf '\251'; printf '\377 \342\202' >&2
""")
    assert (ran.stdout, ran.stderr) == ("é", "\ufffd \ufffd")


def test_much_output(cells):
    """All of a long output is shown."""
    ran = cells.run("%%aegis\nseq 100000\necho end >&2")
    assert ran.stdout == "".join(f"{number}\n" for number in range(1, 100001))
    assert ran.stderr == "end\n"


def test_hostile_output(cells):
    """Colours pass; no other sequence reaches what shows the notebook."""
    ran = cells.run(r"""%%aegis
printf '\033[31mred\033[0m \033]0;title\007 \033[2J\033[?1049h \033'; printf 'c\033[1'; sleep 0.3; printf ';32mgreen'
""")
    assert ran.stdout == "\x1b[31mred\x1b[0m \ufffd]0;title\ufffd  \ufffdc\x1b[1;32mgreen"


def test_a_cell_fails(cells):
    """The first command that fails ends its cell, with an error that says how, and no traceback."""
    ran = cells.run("%%aegis\necho before\ncat /nothing\necho after")
    assert (ran.stdout, ran.error) == (
        "before\n",
        ("CommandFailed", "CommandFailed: '%%aegis' failed with exit code 1"),
    )
    assert "/nothing" in ran.stderr
    assert cells.run("%%aegis\nset +e\nfalse\necho after").stdout == "after\n"
    assert cells.run("%%aegis\nkill -9 $$").error[1] == "CommandFailed: '%%aegis' was ended by SIGKILL"


def test_a_failure_can_be_caught(cells):
    """What a failed cell raises is the SDK's own error, with its exit code and the last of what it said on stderr."""
    ran = cells.run(
        "import aegis_sdk as aegis\n"
        "try:\n    get_ipython().run_cell_magic('aegis', '', 'echo oh; seq 2000 >&2; exit 5')\n"
        "except aegis.CommandFailed as failed:\n"
        "    print(failed.result.exit_code, failed.result.stderr[-5:], len(failed.result.stderr))"
    )
    assert ran.stdout == "oh\n5 2000\n 4096\n"


def test_what_cells_share(cells):
    """Files and running programs stay for later cells; variables and the current directory do not."""
    cells.run("%%aegis\ncd /tmp\nname=value\necho kept > note\nsleep 4567 & echo $! > pid")
    assert cells.run("%%aegis\npwd; echo [$name]; cat /tmp/note").stdout == "/\n[]\nkept\n"
    assert cells.run("%%aegis\nkill $(cat /tmp/pid)").error == ("", "")
    assert cells.run("vm.run('cat', '/tmp/note').stdout").result["text/plain"] == r"'kept\n'"


def test_options_of_a_cell(cells):
    """A cell can have variables, a directory and a user of its own; its first line can use Python's variables."""
    cells.run("where = '/tmp'")
    ran = cells.run("%%aegis -e 'A=1  2' --env B= --user nobody --cwd $where\necho \"$A\" [$B]; pwd; id -u")
    assert ran.stdout == "1  2 []\n/tmp\n65534\n"
    assert cells.run('%%aegis\necho "$A"; id -u').stdout == "\n0\n"


def test_a_cell_reads_nothing(cells):
    """A program that reads its input finds none, and so takes nothing of the script."""
    assert cells.run("%%aegis\ncat\necho after").stdout == "after\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--bogus", "--bogus"),
        ("stray", "stray"),
        ("--memory much", "memory"),
        ("--memory", "memory"),
        ("--cwd 'open", "quotation"),
        ("-e NAME", "NAME=VALUE"),
        ("-e =value", "NAME=VALUE"),
        ("--memory 1024", "--new"),
        ("--image alpine", "--new"),
    ],
)
def test_a_wrong_line(cells, line, words):
    """Arguments that cannot be meant are an error in words, and nothing runs."""
    ran = cells.run(f"%%aegis {line}\necho hello")
    assert ran.stdout == ""
    assert re.fullmatch(f"UsageError: .*{words}.*\n", ran.stderr)


def test_values_out_of_range(cells):
    """What the SDK refuses is said in its words, without a traceback."""
    assert cells.run("%%aegis --new --memory 1\ntrue").error == (
        "InvalidValue",
        "InvalidValue: memory must be from 96 to 16777216 MiB, not 1",
    )
    assert "/nothing" in cells.run("%%aegis --cwd /nothing\ntrue").stderr


def test_options_of_cells_in_a_line(cells):
    """The line that gives the sandbox takes no options of cells."""
    assert "are for cells" in cells.run("vm2 = %aegis --user nobody").stderr


def test_help(cells):
    """%%aegis? explains it, with all its options."""
    said = str(cells.run("print(get_ipython().find_magic('aegis').__doc__)").stdout)
    for word in ("--image", "--memory", "--new", "--env", "sh -e"):
        assert word in said


def test_calls_from_cells(cells):
    """Calls work while the kernel's event loop runs, and so does await."""
    cells.run("import asyncio, aegis_sdk as aegis")
    ran = cells.run("with aegis.Sandbox() as other:\n    done = other.run('echo', '<b>')\ndone")
    assert "\n&lt;b&gt;\n</pre>" in ran.result["text/html"]
    ran = cells.run(
        "async with aegis.AsyncSandbox() as other:\n"
        "    done = await asyncio.gather(*(other.shell(f'echo {n}') for n in range(3)))\n"
        "    print([each.stdout for each in done], other.sync.run('uname').stdout)"
    )
    assert (ran.stdout, ran.error) == (r"['0\n', '1\n', '2\n']" + " Linux\n\n", ("", ""))


def test_a_cell_is_interrupted(cells):
    """The command gets SIGINT, what it then writes is shown, the cell was interrupted, and the sandbox lives on."""
    cells.run("%%aegis\necho kept > /tmp/before")
    ran = cells.interrupt(
        "%%aegis\ntrap 'echo caught; exit 0' INT\necho begun\nwhile :; do sleep 0.2; done", after="begun"
    )
    assert ran.stdout == "begun\ncaught\n"
    assert ran.error == ("KeyboardInterrupt", "KeyboardInterrupt")
    assert cells.run("%%aegis\ncat /tmp/before").stdout == "kept\n"


def test_a_cell_that_will_not_go(cells):
    """A command that ignores SIGINT is ended some seconds later, with its children."""
    begun = time.monotonic()
    ran = cells.interrupt("%%aegis\ntrap '' INT\necho begun\nsleep 5432\nsleep 5432", after="begun")
    assert ran.error[0] == "KeyboardInterrupt"
    assert time.monotonic() - begun < 30
    assert cells.run(GONE.format("5432")).error == ("", "")


def test_a_call_is_interrupted(cells):
    """A call from Python is interrupted, too; its command ends, and the sandbox lives on."""
    ran = cells.interrupt("print('begun', flush=True)\nvm.run('sleep', '6543')", after="begun")
    assert ran.error[0] == "KeyboardInterrupt"
    assert cells.run(GONE.format("6543")).error == ("", "")


def test_an_await_is_interrupted(cells):
    """A cell that awaits is interrupted, too; its command ends, and with its block its sandbox."""
    cells.run("import aegis_sdk as aegis")
    ran = cells.interrupt(
        "async with aegis.AsyncSandbox() as other:\n"
        "    print('begun', flush=True)\n"
        "    await other.run('sleep', '100')",
        after="begun",
    )
    assert ran.error[0] == "CancelledError"
    assert "closed" in cells.run("other").result["text/plain"]
