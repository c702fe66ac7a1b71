"""A gRPC server by grpcio, without generated code: bytes in, bytes out. Prints `listening PORT`."""

import sys
import threading
import time
from concurrent import futures

import grpc

counts = {}
lock = threading.Lock()


def seen(context):
    """How often a call with this id was here, this time included."""
    id = dict(context.invocation_metadata()).get("x-e2e-id")
    with lock:
        counts[id] = counts.get(id, 0) + 1
        return counts[id]


def unary(request, context):
    number = seen(context)
    if request == b"flaky" and number < 3:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
    if request == b"slow":
        time.sleep(5)
    if request.startswith(b"status "):
        code = int(request.split()[1])
        context.abort(next(c for c in grpc.StatusCode if c.value[0] == code), "as asked: 100%")
    context.set_trailing_metadata((("x-count", str(number)),))
    return request


def from_server(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def from_client(requests, context):
    return b"%d" % sum(len(request) for request in requests)


cancelled = threading.Event()


def both(requests, context):
    context.add_callback(lambda: cancelled.set() if not context.is_active() else None)
    for request in requests:
        yield request


def was_cancelled(request, context):
    return b"yes" if cancelled.wait(5) else b"no"


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/e2e.Echo/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/e2e.Echo/FromServer": grpc.unary_stream_rpc_method_handler(from_server),
            "/e2e.Echo/FromClient": grpc.stream_unary_rpc_method_handler(from_client),
            "/e2e.Echo/Both": grpc.stream_stream_rpc_method_handler(both),
            "/e2e.Echo/WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
        }.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
server.add_generic_rpc_handlers((Handler(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening 127.0.0.1:{port}", flush=True)
sys.stdin.read()
# GOAWAY, and time for the calls under way.
server.stop(2).wait()
