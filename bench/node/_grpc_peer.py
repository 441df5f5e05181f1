"""The gRPC peer: its own server in a process, its own client here; the payload is the bytes of one packed message.

python _grpc_peer.py server | ask PORT SECONDS | read PORT ITEMS TIMES      run by over_tcp.py and stream.py in an environment
that has grpcio and msgpack
"""

import json
import sys
import time
from concurrent import futures

import grpc
import msgpack

PAYLOAD = msgpack.packb({"capability": "bench.echo", "payload": {"text": "x" * 120, "n": 42}})


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/echo/items":
            return grpc.unary_stream_rpc_method_handler(items)
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


def items(request, context):
    """A stream of as many items as the request says: each is packed anew, as a server does that has something to say."""
    asked = msgpack.unpackb(request)
    for number in range(asked["upto"]):
        yield msgpack.packb({"text": asked["text"], "n": number})


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Echo(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


def ask(port, seconds):
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    call = channel.unary_unary("/echo/echo")
    for _ in range(200):
        call(PAYLOAD)
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        call(PAYLOAD)
        count += 1
    one = count / seconds
    count, flying, start = 0, [], time.perf_counter()
    while time.perf_counter() < start + seconds:
        flying.append(call.future(PAYLOAD))
        if len(flying) >= 64:
            flying.pop(0).result()
        count += 1
    for future in flying:
        future.result()
    print(json.dumps({"one": one, "many": count / (time.perf_counter() - start)}))


def read(port, count, times):
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    call = channel.unary_stream("/echo/items")

    def each(upto):
        asked = msgpack.packb({"text": "x" * 120, "upto": upto})
        return sum(1 for item in call(asked) if msgpack.unpackb(item))

    each(500)
    start = time.perf_counter()
    assert each(count) == count
    long = count / (time.perf_counter() - start)
    start = time.perf_counter()
    for _ in range(times):
        each(1)
    print(json.dumps({"items": long, "one": times / (time.perf_counter() - start)}))


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve()
    elif sys.argv[1] == "ask":
        ask(int(sys.argv[2]), float(sys.argv[3]))
    else:
        read(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
