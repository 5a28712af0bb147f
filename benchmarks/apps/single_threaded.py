"""A keep-alive file server that serves one connection at a time: what two_browsers.py shows to fail.

python single_threaded.py PORT DIRECTORY
"""

import sys
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler


class Handler(SimpleHTTPRequestHandler):
    """SimpleHTTPRequestHandler with persistent connections."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """No access log."""


if __name__ == "__main__":
    handler = partial(Handler, directory=sys.argv[2])
    with HTTPServer(("127.0.0.1", int(sys.argv[1])), handler) as server:
        server.serve_forever()
