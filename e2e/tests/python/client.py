"""Calls the server beside this through whatever is between, and checks what comes back. Argument: HOST:PORT."""

import sys
import time

import grpc

channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)])


def unary(method="Unary"):
    return channel.unary_unary(f"/e2e.Echo/{method}")


def expect(code, call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} instead of {code}: {error.details()}"
        return error
    raise AssertionError(f"no error instead of {code}")


# Unary, with metadata in both directions and an id that is the same on the way back.
reply, call = unary().with_call(b"hello", metadata=(("x-request-id", "me"), ("x-bin-bin", b"\x00\x01")), timeout=10)
assert reply == b"hello"
assert dict(call.initial_metadata()).get("x-request-id") == "me", call.initial_metadata()
assert dict(call.trailing_metadata())["x-count"], call.trailing_metadata()

# Large messages both ways: flow control.
large = bytes(range(256)) * 12_000
assert unary()(large, timeout=20) == large

# Streams.
numbers = [int(n) for n in channel.unary_stream("/e2e.Echo/FromServer")(b"500", timeout=10)]
assert numbers == list(range(500))
assert channel.stream_unary("/e2e.Echo/FromClient")(iter([b"abc"] * 100), timeout=10) == b"300"
assert list(channel.stream_stream("/e2e.Echo/Both")(iter([b"a", b"b", b"c"]), timeout=10)) == [b"a", b"b", b"c"]

# Status codes and messages pass as they are.
for code in (3, 5, 7, 13, 16):
    status = next(c for c in grpc.StatusCode if c.value[0] == code)
    error = expect(status, lambda: unary()(b"status %d" % code, timeout=10))
    assert error.details() == "as asked: 100%", error.details()

# A deadline ends the call in time, whoever notices first.
begun = time.monotonic()
expect(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: unary()(b"slow", timeout=0.4))
assert time.monotonic() - begun < 2

# UNAVAILABLE without a message was not processed for the policy of this run: it is tried again, out of our sight.
reply, call = unary().with_call(b"flaky", metadata=(("x-e2e-id", "flaky"),), timeout=10)
assert reply == b"flaky" and dict(call.trailing_metadata())["x-count"] == "3", call.trailing_metadata()

# Cancellation reaches the server.
def endless():
    while True:
        yield b"x"
        time.sleep(0.05)


stream = channel.stream_stream("/e2e.Echo/Both")(endless())
assert next(stream) == b"x"
stream.cancel()
assert unary("WasCancelled")(b"", timeout=10) == b"yes"

print("all of it")
