"""A web server on this machine that misbehaves in one way for each address: /stalls/NAME, /longer/NAME and so on."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<html><body>Welcome to the network. Please log in.</body></html>"


class BadServer(ThreadingHTTPServer):
    """Serves `body` under any name. `asked` holds (way, the Range header or None) of each request, in order."""

    daemon_threads = True

    def __init__(self, body: bytes, step: int):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.step = body, step  # step: after how many bytes a way that breaks off does so
        self.asked: list[tuple[str, str | None]] = []
        self.closing = threading.Event()

    def url(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{way}/file.bin"

    def handle_error(self, request, client_address):
        """A client that goes away is what many of the tests want."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BadServer

    def do_GET(self):
        way = self.path.split("/")[1]
        self.server.asked.append((way, self.headers.get("Range")))
        self.close_connection = True
        if way.isdigit():
            return self.send_error(int(way))
        getattr(self, way.replace("-", "_"))(self.server.body)

    def log_message(self, *_):
        """Nothing: `asked` is the record."""

    def start(self, status: int = 200, length: int | None = None, **headers) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def begin(self, body: bytes) -> bytes:
        """Send the head of a proper answer, and give back the bytes that are to follow."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not wanted:
            self.start(200, len(body))
            return body
        first = int(wanted[1])
        if first >= len(body):
            self.start(416, 0, Content_Range=f"bytes */{len(body)}")
            return b""
        self.start(206, len(body) - first, Content_Range=f"bytes {first}-{len(body) - 1}/{len(body)}")
        return body[first:]

    # --- the ways -----------------------------------------------------------------------------------------------

    def ok(self, body):
        self.wfile.write(self.begin(body))

    def ignores_range(self, body):
        self.start(200, len(body))
        self.wfile.write(body)

    def another_range(self, body):
        if "Range" not in self.headers:
            return self.ok(body)
        self.start(206, len(body) - 1, Content_Range=f"bytes 1-{len(body) - 1}/{len(body)}")
        self.wfile.write(body[1:])

    def part_unasked(self, body):
        self.start(206, 10, Content_Range=f"bytes 10-19/{len(body)}")
        self.wfile.write(body[10:20])

    def page(self, body):
        self.start(200, len(PAGE), Content_Type="text/html; charset=utf-8")
        self.wfile.write(PAGE)

    def page_without_a_type(self, body):
        self.start(200)  # no length either: it ends where the connection does
        self.wfile.write(PAGE)

    def page_as_long_as_the_file(self, body):
        self.wfile.write(self.begin(PAGE.ljust(len(body))))

    def shorter(self, body):
        self.wfile.write(self.begin(body[:-100]))

    def longer(self, body):
        self.wfile.write(self.begin(body + bytes(100)))

    def longer_without_a_length(self, body):
        self.start(200)
        self.wfile.write(body + bytes(100_000))

    def without_a_length(self, body):
        self.start(200)
        self.wfile.write(body)

    def chunked(self, body):
        self.start(200, Transfer_Encoding="chunked")
        for start in range(0, len(body), 10_000):
            piece = body[start : start + 10_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def wrong_bytes(self, body):
        self.wfile.write(self.begin(body[:-1] + bytes([body[-1] ^ 1])))

    def breaks_off(self, body):
        self.wfile.write(self.begin(body)[: self.server.step])

    def breaks_off_without_a_length(self, body):
        self.start(200)
        self.wfile.write(body[: self.server.step])

    def wrong_and_breaks_off(self, body):
        self.wfile.write(bytes(byte ^ 1 for byte in self.begin(body)[: self.server.step]))

    def resets(self, body):
        self.wfile.write(self.begin(body)[: self.server.step])
        time.sleep(0.05)  # what was sent arrives before the reset, which would discard it
        self.resets_at_once(body)

    def resets_at_once(self, body):
        kind = "hh" if os.name == "nt" else "ii"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(kind, 1, 0))
        self.connection.close()

    def stalls(self, body):
        self.wfile.write(self.begin(body)[: self.server.step])
        self.server.closing.wait(60)

    def stalls_at_once(self, body):
        self.server.closing.wait(60)

    def slow(self, body, pause=0.02):
        for byte in self.begin(body):
            self.wfile.write(bytes([byte]))
            if self.server.closing.wait(pause):
                return

    def slower(self, body):
        self.slow(body, pause=0.1)

    def slow_then_fast(self, body):
        """Slow to the first that asks, and at full speed to those that come back."""
        if sum(way == "slow-then-fast" for way, _ in self.server.asked) > 1:
            return self.ok(body)
        self.slow(body)

    def redirects(self, body):
        self.start(302, 0, Location=self.server.url("ok"))

    def redirects_to_a_page(self, body):
        self.start(302, 0, Location=self.server.url("page"))

    def redirects_in_a_circle(self, body):
        self.start(302, 0, Location=self.server.url("redirects-in-a-circle"))

    def nonsense(self, body):
        self.wfile.write(b"this is no HTTP at all\r\n\r\n")


@contextlib.contextmanager
def serving(body: bytes, step: int = 50_000) -> Iterator[BadServer]:
    """The server while it runs, on a free port of this machine."""
    server = BadServer(body, step)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
