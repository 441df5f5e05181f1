"""The zerorpc peer, like _grpc_peer.py: run in an environment that has zerorpc."""

import json
import sys
import time

import gevent
import zerorpc
from gevent.pool import Pool

PAYLOAD = {"capability": "bench.echo", "payload": {"text": "x" * 120, "n": 42}}


class Echo:
    def echo(self, message):
        return message


def serve():
    server = zerorpc.Server(Echo())
    server.bind("tcp://127.0.0.1:" + sys.argv[2])
    print(sys.argv[2], flush=True)
    server.run()


def ask(port, seconds):
    client = zerorpc.Client()
    client.connect(f"tcp://127.0.0.1:{port}")
    for _ in range(100):
        client.echo(PAYLOAD)
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        client.echo(PAYLOAD)
        count += 1
    one, pool, total = count / seconds, Pool(64), 4000
    start = time.perf_counter()
    for _ in pool.imap_unordered(client.echo, (PAYLOAD for _ in range(total))):
        pass
    print(json.dumps({"one": one, "many": total / (time.perf_counter() - start)}))
    gevent.sleep(0)


if __name__ == "__main__":
    serve() if sys.argv[1] == "server" else ask(int(sys.argv[2]), float(sys.argv[3]))
