"""What every request of a service goes through: it counts them, and does to them what the fault says. Beside it the port for tests."""

import json
import math
import os
import re
import signal
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

# Passed on to the services that are called.
FORWARDED = ("traceparent", "tracestate", "baggage", "x-request-id")
# What requests get to end in, once no new ones are taken. With the drain it is below the pod's grace of 15 s.
END_SECONDS = 10


@dataclass(frozen=True)
class Fault:
    """What a service does wrong because a test told it to."""

    status: int = 0  # answered instead of the work; 0: none
    share: float = 1.0  # of the requests that get this status
    delay: float = 0.0  # seconds, added to each request
    concurrency: float = math.inf  # requests that are worked on at once; the others queue here


def seconds(text: str) -> float:
    """Reads `200ms` or `1.5s`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", text)
    if found is None:
        raise ValueError(f"`{text}` is no length of time such as 200ms")
    return float(found[1]) / (1000 if found[2] == "ms" else 1)


def parse_fault(query: str) -> Fault:
    """Reads a query string; raises ValueError with what is wrong with it."""
    readers = {"status": int, "share": float, "delay": seconds, "concurrency": int}
    given = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in readers:
            raise ValueError(f"{name}: unknown")
        given[name] = readers[name](text)
    fault = Fault(**given)
    if "status" in given and not 200 <= fault.status <= 599:
        raise ValueError("status: not from 200 to 599")
    if not 0 <= fault.share <= 1:
        raise ValueError("share: not from 0 to 1")
    if fault.concurrency < 1:
        raise ValueError("concurrency: below 1")
    return fault


class Gate:
    """Shared by all requests."""

    def __init__(self):
        self._lock = threading.Lock()
        self._fault = Fault()
        self._owed = 0.0  # of the next faulty answer: a share is kept exactly, not by chance
        self._working = 0
        self._waiting = deque()  # of events, oldest first
        self._counts = {"served": 0, "failed": 0, "concurrent": 0, "concurrent_max": 0}
        self._last = {}
        self.ending = False

    def enter(self, header) -> int:
        """Waits for a place and for the fault's delay; gives the status to answer instead of the work, or 0."""
        with self._lock:
            self._counts["concurrent"] += 1
            self._counts["concurrent_max"] = max(self._counts["concurrent_max"], self._counts["concurrent"])
            self._last = {name: header(name) or "" for name in FORWARDED}
            delay = self._fault.delay
            turn = None
            if self._working >= self._fault.concurrency:
                turn = threading.Event()
                self._waiting.append(turn)
            else:
                self._working += 1
        if turn is not None:
            turn.wait()
        if delay:
            time.sleep(delay)
        with self._lock:
            if self._fault.status == 0:
                return 0
            self._owed += self._fault.share
            if self._owed < 1:
                return 0
            self._owed -= 1
            return self._fault.status

    def leave(self, well: bool) -> None:
        """Ends a request with whether it was answered well."""
        with self._lock:
            self._working -= 1
            self._counts["concurrent"] -= 1
            self._counts["served" if well else "failed"] += 1
            self._admit()

    def set(self, fault: Fault) -> None:
        with self._lock:
            self._fault, self._owed = fault, 0.0
            self._admit()

    def reset(self) -> None:
        """Zeroes the counts; requests that are in the service stay counted as such."""
        with self._lock:
            now = self._counts["concurrent"]
            self._counts = {"served": 0, "failed": 0, "concurrent": now, "concurrent_max": now}

    def counts(self) -> dict:
        with self._lock:
            return dict(self._counts)

    def last(self) -> dict:
        with self._lock:
            return dict(self._last)

    def _admit(self) -> None:
        while self._waiting and self._working < self._fault.concurrency:
            self._working += 1
            self._waiting.popleft().set()


class Server(ThreadingHTTPServer):
    """A thread a connection, on both families, or on IPv4 alone where the machine has no IPv6."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, handler):
        try:
            self.address_family = socket.AF_INET6
            super().__init__(("::", port), handler)
        except OSError:
            self.address_family = socket.AF_INET
            super().__init__(("0.0.0.0", port), handler)

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request, client_address):
        """A caller that has left is no concern of the service."""


class Handler(BaseHTTPRequestHandler):
    """What both ports have in common."""

    protocol_version = "HTTP/1.1"
    # Longer than callers keep unused connections.
    timeout = 75
    disable_nagle_algorithm = True
    wbufsize = -1

    def answer(self, status: int, body, content="application/json") -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", content)
        self.send_header("content-length", str(len(data)))
        if self.server.gate.ending:
            # The caller's next request goes to another pod, on a new connection.
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Callers know what they asked."""


class SideHandler(Handler):
    """The port for tests."""

    def do_GET(self):
        url = urlsplit(self.path)
        gate = self.server.gate
        if url.path == "/ready":
            self.answer(*((503, "ending\n") if gate.ending else (200, "ready\n")), "text/plain")
        elif url.path == "/counts":
            self.answer(200, gate.counts())
        elif url.path == "/last":
            self.answer(200, gate.last())
        elif url.path == "/reset":
            gate.reset()
            self.answer(200, "reset\n", "text/plain")
        elif url.path == "/fault":
            try:
                gate.set(parse_fault(url.query))
            except ValueError as error:
                self.answer(400, f"{error}\n", "text/plain")
            else:
                self.answer(200, "set\n", "text/plain")
        else:
            self.answer(404, "not found\n", "text/plain")


def serve(gate: Gate, handler) -> None:
    """Serves until SIGTERM; then goes on for a while, unready, so that no caller is told of it any more; then ends with what is in flight."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    # The side port comes last, since it says that the service is ready.
    servers = []
    for port, handles in ((os.environ.get("PORT", "8080"), handler), (os.environ.get("SIDE_PORT", "9000"), SideHandler)):
        server = Server(int(port), handles)
        server.gate = gate
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    told.wait()
    gate.ending = True
    time.sleep(seconds(os.environ.get("SHOP_DRAIN", "3s")))
    servers[0].shutdown()
    servers[0].socket.close()
    end = time.monotonic() + END_SECONDS
    while gate.counts()["concurrent"] > 0:
        if time.monotonic() > end:
            raise SystemExit("requests did not end in time")
        time.sleep(0.01)
