"""What DBOS on SQLite does for the same work, as it comes: `_dbos_peer.py rate|crash|recover|waiting FILE [N]`, a JSON line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import statistics
import sys
import threading
import time
import uuid
from pathlib import Path

import sqlalchemy
from dbos import DBOS, SetWorkflowID

logging.disable(logging.WARNING)
SECONDS = 2.0
gate = threading.Event()
passed = threading.Semaphore(0)


@DBOS.step()
def step(n):
    return n + 1


@DBOS.step()
async def step_async(n):
    return n + 1


@DBOS.workflow()
def chain(length):
    n = 0
    for _ in range(length):
        n = step(n)
    return n


@DBOS.workflow()
async def chain_async(length):
    n = 0
    for _ in range(length):
        n = await step_async(n)
    return n


@DBOS.workflow()
async def waiter():
    return await DBOS.recv_async("answer", timeout_seconds=3600)


@DBOS.workflow()
async def unfinished():
    n = await step_async(await step_async(0))
    passed.release()
    while not gate.is_set():
        await asyncio.sleep(0.5)
    for _ in range(3):
        n = await step_async(n)
    return n


def in_threads(count):
    share = max(1, 128 // count)
    threads = [threading.Thread(target=lambda: [chain(5) for _ in range(share)]) for _ in range(count)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return share * count / (time.perf_counter() - begun)


def gathered(count):
    async def run():
        await asyncio.gather(*[chain_async(5) for _ in range(count)])

    begun = time.perf_counter()
    asyncio.run(run())
    return count / (time.perf_counter() - begun)


def rate():
    chain(5)
    one = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        begun = time.perf_counter()
        chain(5)
        one.append(time.perf_counter() - begun)
    many = [in_threads(16), in_threads(64), gathered(64), gathered(256)]
    return {"one": 1 / statistics.median(one), "many": max(many)}


def crash(count):
    """Leaves runs that have done two of their five steps."""

    async def begin():
        for _ in range(count):
            with SetWorkflowID(f"unfinished-{uuid.uuid4()}"):
                await DBOS.start_workflow_async(unfinished)
        done = 0
        end = time.monotonic() + 120
        while done < count and time.monotonic() < end:
            if passed.acquire(blocking=False):
                done += 1
            else:
                await asyncio.sleep(0.01)
        return done

    return asyncio.new_event_loop().run_until_complete(begin())


def ended(file, begun):
    """Seconds until no run is unfinished."""
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    while time.perf_counter() - begun < 180:
        with engine.connect() as database:
            query = sqlalchemy.text("SELECT count(*) FROM workflow_status WHERE status <> 'SUCCESS'")
            if not database.execute(query).scalar():
                return time.perf_counter() - begun
        time.sleep(0.02)
    raise SystemExit("runs are unfinished after 180 s")


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def waiting(count):
    async def begin(more):
        for _ in range(more):
            await DBOS.start_workflow_async(waiter)
        await asyncio.sleep(1)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin(count // 4))
    before = resident()
    loop.run_until_complete(begin(count))
    return (resident() - before) / count


def main():
    role, file, count = sys.argv[1], sys.argv[2], int((sys.argv[3:] or ["0"])[0])
    begun = time.perf_counter()
    if role == "recover":
        gate.set()
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{file}",
            "application_version": "1",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    match role:
        case "rate":
            answer = rate()
        case "crash":
            answer = crash(count)
        case "recover":
            answer = ended(file, begun)
        case _:
            answer = waiting(count)
    print(json.dumps(answer), flush=True)
    os._exit(0)


main()
