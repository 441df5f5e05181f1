"""The gRPC peer: its own server in a process, its own client here; the payload is the bytes of one packed message.

python _grpc_peer.py server | ask PORT SECONDS      run by over_tcp.py in an environment that has grpcio and msgpack
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
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


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


if __name__ == "__main__":
    serve() if sys.argv[1] == "server" else ask(int(sys.argv[2]), float(sys.argv[3]))
