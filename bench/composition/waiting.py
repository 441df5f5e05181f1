"""A hundred thousand runs that wait, half for a decision, half for a time: what one costs in memory; none is a greenlet.

python bench/composition/waiting.py [RUNS]
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gevent
from gevent.pool import Pool
from greenlet import greenlet

from bench.figures import figure
from packetflow import Node
from packetflow.composition.building import approval, composition, sleep
from packetflow.node.config import NodeConfig

RUNS = int((sys.argv[1:] or ["100000"])[0])
ASKS = composition("bench.asks", "Waits for a decision", approval(["ana"]), durable=True)
SLEEPS = composition("bench.sleeps", "Waits for a day", sleep(86_400.0), durable=True)


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def greenlets() -> int:
    """How many there are."""
    gc.collect()
    return sum(isinstance(one, greenlet) and not one.dead for one in gc.get_objects())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, open("/dev/null", "w") as log:
        data = {
            "node": {"name": "bench", "data_folder": str(Path(folder) / "run")},
            "tcp": {"enabled": False},
            "http": {"enabled": False},
        }
        plans = [ASKS, SLEEPS]
        with Node(NodeConfig.model_validate(data), capabilities=plans, log_stream=log) as node:
            runs, session = node.waking().runs, node.session()

            def begin(number: int) -> None:
                runs.start(plans[number % 2], {}, session)

            def all_of(count: int) -> float:
                pool, begun = Pool(256), time.perf_counter()
                for number in range(count):
                    pool.spawn(begin, number)
                pool.join()
                while runs.under_way:
                    gevent.sleep(0.01)
                return time.perf_counter() - begun

            all_of(2_000)  # so that caches and connections are there
            before, alive = resident(), greenlets()
            took = all_of(RUNS)
            more = greenlets() - alive
            figure(
                "composition: greenlets of waiting runs",
                max(0, more),
                RUNS,
                "one each",
                "greenlets",
                0.001,
                "lower",
            )
            grown = max(0, resident() - before) / RUNS
            figure(
                "composition: memory of a waiting run",
                grown,
                2_000,
                "the design's limit",
                "bytes",
                1.0,
                "lower",
            )
            rate = RUNS / took
            figure("composition: runs that begin to wait", rate, rate, "itself", "runs/s", None)


if __name__ == "__main__":
    main()
