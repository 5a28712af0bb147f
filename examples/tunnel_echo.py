"""Switches to another protocol, "echo", which sends back what it receives (RFC 9110 §7.8).

python examples/tunnel_echo.py [PORT], until Ctrl-C. Then, in another terminal:

    ask='GET / HTTP/1.1\\r\\nHost: h\\r\\nConnection: upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n'
    (printf "$ask"; cat) | nc -N 127.0.0.1 8000

After the 101 the connection is not HTTP any more: its bytes go to a `Tunnel`. This one reads no faster than its client
does, so a client that sends without reading fills its own buffers, and not the memory of the server.
"""

from __future__ import annotations

import signal
import sys

from kaserve import Config, HTTPError, Request, Response, Server, Tunnel, TunnelConnection


class Echo(Tunnel):
    """Sends back what it receives, and ends when the client has finished."""

    def opened(self, connection: TunnelConnection) -> None:
        self.connection = connection

    def received(self, data: bytes) -> None:
        if not self.connection.write(data):
            self.connection.pause()

    def drained(self) -> None:
        self.connection.resume()

    def ended(self) -> None:
        self.connection.finish()

    def stopping(self) -> None:
        self.connection.close()


def handler(request: Request) -> Response:
    if "echo" not in request.upgrades:
        raise HTTPError(426, "this resource speaks only echo", (("Upgrade", "echo"),))
    return Response.upgrade("echo", Echo())


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the program as Ctrl-C does
    server = Server(handler, Config(port=port))
    server.open()  # raises OSError if the address is unavailable
    print(f"at {server.url} until Ctrl-C", flush=True)
    server.run()


if __name__ == "__main__":
    main()
