"""The standard library: http.server with a thread for each connection.

python run_http_server.py PORT
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Respond with five bytes of text, as the documentation of http.server does it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say hello."""
        self.respond(b"hello")

    def do_POST(self) -> None:
        """Read the whole body, and respond with its length in bytes. This class knows nothing of chunks."""
        if "Content-Length" not in self.headers:
            self.send_error(411)
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.respond(b"%d" % len(body))

    def respond(self, content: bytes) -> None:
        """Head and body are two sends, which is how this class works."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """No access log, like every other server here."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        server.serve_forever()
