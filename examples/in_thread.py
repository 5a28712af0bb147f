"""Servers in background threads, while a block lasts.

python examples/in_thread.py sends requests to its own servers, prints the responses, and ends.
"""

from __future__ import annotations

import urllib.request

from kaserve import Config, Request, Response, Server


def handler(request: Request) -> Response:
    return Response.text(f"hello from {request.path}")


def main() -> None:
    with Server(handler, Config(port=0)) as one, Server(handler, Config(port=0)) as two:
        for server in (one, two):  # both accept connections already
            with urllib.request.urlopen(server.url_for("/thread")) as response:
                print(f"at {server.url}: {response.read().decode()}", flush=True)


if __name__ == "__main__":
    main()
