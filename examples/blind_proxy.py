"""A proxy that forwards blindly, as those of 1996 did: for an experiment (docs/proxy.md), and not for use.

    python examples/blind_proxy.py 8080 127.0.0.1:9000

It passes on each header as it is, `Connection: Keep-Alive` included, and knows the end of a response by the end of the
server's connection. So a client that asks to keep its connection makes the server keep that of the proxy, and each of
the three waits for another.
"""

from __future__ import annotations

import socket
import sys
import threading


def forward(client: socket.socket, server: tuple[str, int]) -> None:
    """Passes on one request, and then bytes until the server closes."""
    with client, socket.create_connection(server) as upstream:
        request = b""
        while b"\r\n\r\n" not in request:
            data = client.recv(65536)
            if not data:
                return
            request += data
        upstream.sendall(request)
        while data := upstream.recv(65536):
            client.sendall(data)


def serve(port: int, server: tuple[str, int]) -> None:
    """Serves until the process is killed, each client in a thread."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(f"at http://127.0.0.1:{listener.getsockname()[1]}/ until Ctrl-C", flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=forward, args=(client, server), daemon=True).start()


if __name__ == "__main__":
    host, _, number = sys.argv[2].partition(":")
    serve(int(sys.argv[1]), (host, int(number)))
