"""What a notebook's sandbox lives through, and what it ends with."""

from __future__ import annotations

import asyncio
import re

import nbformat
import pytest

from tests.conftest import ROOT, monitors, until
from tests.notebook.conftest import Ran, client_in

pytestmark = pytest.mark.timeout(120)


def test_a_guest_that_died(notebook):
    """When the sandbox has died, its cell says so, and the next has another sandbox like it."""
    notebook.run("%%aegis --memory 200\ntrue")
    name, shown = notebook.run("%%aegis\npoweroff -f\nsleep 100").error
    assert name == "GuestDied"
    assert "powered off" in shown
    assert "the next cell boots another sandbox" in shown
    assert notebook.run("%%aegis\necho again").stdout == "again\n"
    assert "<td>200 MiB</td>" in notebook.run("%aegis").result["text/html"]


def test_another_sandbox(registry, empty_home, notebook):
    """--new boots another, of any image, and ends the one before, unless the other cannot boot."""
    notebook.run("%%aegis\necho kept > /tmp/note")
    notebook.run("vm = %aegis")
    assert "ImageNotFound" in notebook.run("%%aegis --new --image dir:/no/such/directory\ntrue").error[0]
    assert notebook.run("%%aegis\ncat /tmp/note").stdout == "kept\n"
    image = registry.name("python:1")
    ran = notebook.run(f"%%aegis --new --image {image} --writable\nls /tmp; touch /etc/note; python3 -c 'print(6 * 7)'")
    assert (ran.stdout, ran.error) == ("42\n", ("", ""))
    assert "layer 3 of 3: unpack done\n" in ran.stderr
    assert notebook.run("vm").result["text/plain"].endswith("closed>")
    assert "--new" in notebook.run("%%aegis --image base\ntrue").stderr
    assert notebook.run(f"%%aegis --image {image}\nls /etc/note").stdout == "/etc/note\n"
    assert len(monitors()) == 1


def test_unloading(notebook):
    """%unload_ext ends the sandbox and takes the magic away; another ends with its kernel, even one that is killed."""
    before = monitors()
    notebook.run("%%aegis\ntrue")
    assert monitors() > before
    notebook.run("%unload_ext aegis_sdk.notebook")
    assert until(lambda: monitors() <= before, 2)
    assert "not found" in notebook.run("%%aegis\ntrue").stderr
    notebook.run("%load_ext aegis_sdk.notebook")
    assert notebook.run("%%aegis\necho again").stdout == "again\n"
    notebook.kill()
    assert until(lambda: monitors() <= before, 2)


def test_the_example(tmp_path):
    """The example is stored without outputs, and runs from its first cell to its last."""
    book = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)
    with client_in(tmp_path, book) as client:
        asyncio.run(client.async_execute())
    _, script, sandbox, call, squares = (Ran(cell.outputs) for cell in book.cells if cell.cell_type == "code")
    assert re.fullmatch(r"Linux \d.*\nstep 1\nstep 2\nstep 3\n", script.stdout)
    assert "<caption>Sandbox " in sandbox.result["text/html"]
    assert "\nkept for later\n</pre>" in call.result["text/html"]
    assert squares.stdout == "squares: 0 1 4 9 16 25 36 49 64 81\n"
