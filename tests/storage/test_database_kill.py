"""kill -9 of a process that writes: every row that it was told is written is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from packetflow.storage.database import Database

TIMES = int(os.environ.get("PACKETFLOW_KILLS", "30"))

PROGRAM = """
    import os, sys, gevent
    from pathlib import Path
    from packetflow.storage import checkpoint
    from packetflow.storage.database import Database
    checkpoint.DUE, checkpoint.TOO_LONG = 30, 90
    database = Database(Path(sys.argv[1]))
    table = "CREATE TABLE IF NOT EXISTS n (run TEXT, who INTEGER, number INTEGER, row INTEGER, b BLOB)"
    database.write(lambda t: t.execute(table))
    run = sys.argv[2]

    def write(who):
        number = 0
        while True:
            database.append("INSERT INTO n VALUES (?, ?, ?, ?, zeroblob(700))", [(run, who, number, row) for row in (0, 1)])
            os.write(1, f"{run} {who} {number}\\n".encode())
            number += 1

    gevent.joinall([gevent.spawn(write, who) for who in range(16)], raise_error=True)
"""


def test_every_acknowledged_row_survives_kills_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    chance = random.Random()
    acknowledged: set[tuple[str, int, int]] = set()
    for run in range(TIMES):
        writing = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(path), str(run)], stdout=subprocess.PIPE
        )
        assert writing.stdout is not None
        first = writing.stdout.readline()
        end = time.monotonic() + chance.uniform(0, 0.05)
        lines = [first]
        while time.monotonic() < end:
            lines.append(writing.stdout.readline())
        writing.send_signal(signal.SIGKILL)
        lines += writing.stdout.readlines()
        writing.wait()
        writing.stdout.close()
        assert first, "the program ended by itself"
        for line in lines:
            if line.endswith(b"\n"):
                name, who, number = line.split()
                acknowledged.add((name.decode(), int(who), int(number)))
    with Database(path) as database:
        found = Counter((row[0], row[1], row[2]) for row in database.read("SELECT run, who, number FROM n"))
        assert database.check() == []
    assert len(acknowledged) > TIMES
    assert acknowledged <= set(found)
    assert set(found.values()) == {2}  # each write whole


@pytest.mark.parametrize("moment", range(8))
def test_a_kill_while_the_file_is_made_leaves_one_that_can_be_opened(tmp_path: Path, moment: int) -> None:
    path = tmp_path / "node.db"
    program = f"""
        import os, signal
        from pathlib import Path
        import packetflow.storage.sqlite as sqlite
        from packetflow.storage.database import Database
        real = {{name: getattr(os, name) for name in ("open", "replace", "fsync", "close")}}
        left = [{moment}]
        def counted(name):
            def call(*given, **named):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return real[name](*given, **named)
            return call
        class Os:
            def __getattr__(self, name):
                return counted(name) if name in real else getattr(os, name)
        sqlite.os = Os()
        with Database(Path({str(path)!r})) as database:
            database.write(lambda t: t.execute("CREATE TABLE n (i INTEGER)"))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False, timeout=30)
    assert done.returncode in (0, -signal.SIGKILL)
    with Database(path) as database:
        database.write(lambda transaction: transaction.execute("CREATE TABLE IF NOT EXISTS n (i INTEGER)"))
        assert database.check() == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["node.db"]
