"""Sells: HTTP/1 in, gRPC to payments, HTTP/1 to catalog."""

import json
import os
import socket

import grpc
import urllib3

from shop.gate import FORWARDED, Gate, Handler, serve

# What a call to another service may take.
CALL_SECONDS = 10

# The HTTP status that says what a gRPC code says.
STATUSES = {
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Shop:
    """The services that checkout calls."""

    def __init__(self):
        self._catalog = os.environ.get("CATALOG_URL", "http://catalog").rstrip("/")
        self._http = urllib3.PoolManager(maxsize=64, retries=False, timeout=CALL_SECONDS)
        channel = grpc.insecure_channel(os.environ.get("PAYMENTS_ADDR", "payments:50051"))
        # The messages of shop.proto are carried as JSON, so that no language of the shop needs generated code.
        self._charge = channel.unary_unary(
            "/shop.Payments/Charge",
            request_serializer=lambda message: json.dumps(message).encode(),
            response_deserializer=json.loads,
        )

    def item(self, item: int, headers: dict) -> tuple[int, dict]:
        try:
            response = self._http.request("GET", f"{self._catalog}/items/{item}", headers=headers)
        except urllib3.exceptions.HTTPError as error:
            # For urllib3 a refused connection is a kind of timeout.
            late = isinstance(error, urllib3.exceptions.TimeoutError) and not isinstance(error, urllib3.exceptions.NewConnectionError)
            return 504 if late else 502, {"error": f"catalog: {error}"}
        try:
            return response.status, response.json()
        except ValueError:
            return response.status, {"error": f"catalog: {response.data[:200].decode(errors='replace')}"}

    def charge(self, amount: int, headers: dict) -> tuple[int, dict]:
        try:
            return 200, self._charge({"item": 7, "amount": amount}, metadata=tuple(headers.items()), timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            return STATUSES.get(error.code(), 502), {"error": f"payments: {error.code().name}: {error.details()}"}


class CheckoutHandler(Handler):
    """POST /checkout."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != "/checkout":
            self.answer(404, {"error": "not found"})
            return
        gate = self.server.gate
        status = gate.enter(self.headers.get)
        try:
            body = {"service": "checkout", "pod": socket.gethostname(), "traceparent": self.headers.get("traceparent")}
            if status:
                body["error"] = "told to fail"
            else:
                status, body = self._sell(body)
            self.answer(status, body)
            self.wfile.flush()
        except BaseException:
            status = 500
            raise
        finally:
            gate.leave(status < 500)

    def _sell(self, body: dict) -> tuple[int, dict]:
        shop = self.server.gate.shop
        headers = {name: self.headers[name] for name in FORWARDED if self.headers.get(name)}
        status, body["catalog"] = shop.item(7, headers)
        if status == 200:
            status, body["payments"] = shop.charge(1200, headers)
        return status, body


def main(_arguments):
    gate = Gate()
    gate.shop = Shop()
    serve(gate, CheckoutHandler)
