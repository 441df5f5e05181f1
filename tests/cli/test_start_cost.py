"""Why help, version and completion are quick: they load neither gevent nor pydantic, nor any other heavy thing."""

import subprocess
import sys

import pytest

from .conftest import environment

HEAVY = ("gevent", "pydantic", "msgpack", "structlog", "httptools", "spanned_toml", "apsw", "asyncio", "ssl")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["version"],
        ["completion", "bash"],
        ["module", "--help"],
        ["help", "not_found"],
        ["call", "--help"],
        ["module", "list", "--help"],
        ["modul"],
    ],
    ids=" ".join,
)
def test_what_needs_no_node_loads_none_of_its_libraries(words, tmp_path):
    code = (
        "import sys\n"
        "from packetflow.cli.program import run\n"
        f"run({words!r})\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.stderr.write('heavy ' + ' '.join(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=tmp_path, env=environment(), timeout=40
    )
    assert done.stderr.decode().rsplit("heavy", 1)[1].strip() == ""


def test_completing_a_word_of_ours_loads_none_of_them_either(tmp_path):
    code = (
        "import sys\n"
        "from packetflow.cli.completing import candidates\n"
        "assert ('module', 'what every request passes') in candidates([], 'mo')\n"
        "assert [word for word, _ in candidates(['module'], 'r')] == ['reload', 'restart']\n"
        "assert '--json' in [word for word, _ in candidates(['module', 'list'], '--j')]\n"
        f"assert not [name for name in {HEAVY!r} if name in sys.modules]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment(), timeout=40)
