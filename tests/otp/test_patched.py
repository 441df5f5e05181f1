"""The runtime in a program that has patched everything: the same tests, where gevent replaced the standard library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# One greenlet a test, and threads that are greenlets: what is about native threads and processes has tests of its own.
PATCHED = """
import sys
from gevent import monkey
monkey.patch_all()
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-m", "not slow", *sys.argv[1:]]))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "files",
    [
        [
            "test_server.py",
            "test_server_faults.py",
            "test_bounded_mailboxes.py",
            "test_exits.py",
            "test_timers.py",
        ],
        [
            "supervision/test_supervisor.py",
            "supervision/test_requests.py",
            "test_random_kills.py",
            "test_against_model.py",
        ],
        [
            "registry/test_registry.py",
            "registry/test_life.py",
            "registry/test_lock.py",
            "test_agent.py",
            "supervision/test_partition_supervisor.py",
            "supervision/test_partition_resize.py",
        ],
    ],
    ids=["servers", "supervisors", "registries"],
)
def test_the_same_holds_where_the_standard_library_is_patched(files: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PATCHED, *(str(Path("tests/otp") / file) for file in files)],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)])),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
