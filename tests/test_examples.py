"""Every example runs, and says what it is there to say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PYTHON = "python:3.12-alpine"  # which the tests have in a registry of their own
SAYS = {
    "asynchronous.py": r"answers: 0 1 2 3 4 5 6 7 8 9",
    "files.py": r"3 words\nfox\nquick\nthe\n\['counted.txt', 'words.txt'\] came back\ncreated /workspace/new\n$",
    "hello.py": r"hello from Linux \d.*\nexit code 0 after",
    "images.py": r"(layer \d of 3: (fetch|unpack) done, \d+ bytes\n)+127\S+/python:1 sha256:[0-9a-f]{64}\n2\n$",
    "kept.py": r"dev has a note: back soon\nand after a stop it has none\n$",
    "mounted_project.py": r"the guest: rm: .*Read-only file system\nits result: 3\n$",
    "one_name.py": (
        r"the service: apples are 3 today\n"
        r"elsewhere: the guest was refused 93.184.216.34:443: .*--allow 93.184.216.34:443\)\n"
        r"prices:\d+ allowed \d+ bytes\n93.184.216.34:443 refused 0 bytes\n$"
    ),
    "served_app.py": (
        r"hello, Ada: visit 1\nit sleeps; hello, Ada: visit 2\n"
        r"v2 says good day, Ada: visit 3\n$"
    ),
    "streaming.py": (
        r"step 1\nstep 2\nstep 3\nexit code 0\nsaid: working\nwarned: careful\nexit code 3 and in all 'working\\n'\n"
        r"6 \* 7 = 42\n2 \^ 64 = 18446744073709551616\na terminal of 50 132\nexit code 130\n$"
    ),
}


def test_all_are_known():
    """No example is left out here."""
    assert set(SAYS) == {path.name for path in (ROOT / "examples").glob("*.py")}


@pytest.mark.parametrize("name", SAYS)
@pytest.mark.timeout(60)
def test_example(name, registry, empty_home):
    """It ends well, with the words that it is about."""
    code = (ROOT / "examples" / name).read_text().replace(PYTHON, registry.name("python:1"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.match(SAYS[name], done.stdout), done.stdout


@pytest.mark.timeout(120)
def test_the_readmes_python(registry, tmp_path):
    """The Python that README shows runs as it stands."""
    code = "".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    code = code.replace(PYTHON, registry.name("python:1")).replace('"python",', '"python3",')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    served = r"http://127.0.0.1:\d+/app/shop/ RUNNING\n"
    refused = r"the guest was refused 10\.0\.0\.1:5432: .*\)\n\[\('10\.0\.0\.1:5432', False, 0, 0\)\]\n"
    said = (
        r"Linux aegis .*\n\n3\n1\n2\n3\nstep\ndone\n3\n3\n2\n1\n2\n\n" + refused + served + r"stdout hello\nFAILED 3\n$"
    )
    assert re.match(said, done.stdout, re.DOTALL), done.stdout


def test_the_readmes_links():
    """Every file that README and the pages under docs link to is there."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
