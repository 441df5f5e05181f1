"""What Pykka does for the same work: `_pykka_peer.py` answers lines "ROW COUNT"; `_pykka_peer.py ROW COUNT` does one."""

from __future__ import annotations

import gc
import json
import os
import sys
import time

import pykka


class Echo(pykka.ThreadingActor):
    use_daemon_thread = True

    def on_receive(self, message):
        return message


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


clock = time.process_time if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter


def warm(work, count):
    work(max(1, count // 10))
    begin = clock()
    work(count)
    return {"seconds": clock() - begin}


def call(count):
    ref = Echo.start()

    def work(count):
        for _ in range(count):
            ref.ask(1, timeout=5.0)

    try:
        return warm(work, count)
    finally:
        ref.stop()


def cast(count):
    ref = Echo.start()

    def work(count):
        for _ in range(count):
            ref.tell(1)
        ref.ask(1, timeout=60.0)

    try:
        return warm(work, count)
    finally:
        ref.stop()


def idle(count):
    held = [Echo.start() for _ in range(10)]
    gc.collect()
    before = resident()
    held += [Echo.start() for _ in range(count)]
    for ref in held:
        ref.ask(1, timeout=60.0)
    return {"rss": (resident() - before) / count}


ROWS = {"call": call, "cast": cast, "idle": idle}


def answer(name, count):
    print(json.dumps(ROWS[name](int(count))), flush=True)


def main():
    if len(sys.argv) == 3:
        answer(*sys.argv[1:])
        return
    for line in sys.stdin:
        answer(*line.split())


if __name__ == "__main__":
    main()
