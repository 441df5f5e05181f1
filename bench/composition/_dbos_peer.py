"""What DBOS does for the same work on SQLite: prints {row: runs a second}. `python _dbos_peer.py FOLDER SECONDS`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from dbos import DBOS

folder, budget = Path(sys.argv[1]), float(sys.argv[2])
DBOS(
    config={
        "name": "bench",
        "system_database_url": f"sqlite:///{folder / 'dbos.sqlite'}",
        "run_admin_server": False,
        "log_level": "CRITICAL",
    }
)


@DBOS.step()
def add(n: int) -> int:
    return n + 1


@DBOS.workflow()
def five(n: int) -> int:
    for _ in range(5):
        n = add(n)
    return n


def one_at_a_time() -> float:
    assert five(0) == 5
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + budget:
        five(0)
        count += 1
    return count / (time.perf_counter() - begun)


def many_at_once(many: int = 256) -> float:
    begun = time.perf_counter()
    handles = [DBOS.start_workflow(five, 0) for _ in range(many)]
    assert all(handle.get_result(polling_interval_sec=0.01) == 5 for handle in handles)
    return many / (time.perf_counter() - begun)


DBOS.launch()
print(json.dumps({"one": one_at_a_time(), "many": many_at_once()}), flush=True)
DBOS.destroy()
