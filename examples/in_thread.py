"""A server beside the program: in a background thread, for as long as a block lasts.

python examples/in_thread.py asks itself, says what it was told, and ends.
"""

from __future__ import annotations

import urllib.request

from kaserve import Config, Request, Response, Server


def handler(request: Request) -> Response:
    return Response.text(f"hello from {request.path}")


def main() -> None:
    with Server(handler, Config(port=0)) as one, Server(handler, Config(port=0)) as two:
        for server in (one, two):  # they listen: whoever connects now is answered
            with urllib.request.urlopen(server.url + "thread") as response:
                print(f"at {server.url}: {response.read().decode()}", flush=True)


if __name__ == "__main__":
    main()
