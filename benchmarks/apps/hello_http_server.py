"""The hello of the standard library: http.server with a thread for each connection.

python hello_http_server.py PORT
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hello(BaseHTTPRequestHandler):
    """Answer every GET with five bytes of text, as the documentation of http.server does it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Head and body are two sends, which is how this class works."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        """No access log, like every other server here."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hello) as server:
        server.serve_forever()
