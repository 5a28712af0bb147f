"""Hashes uploads of any size while they arrive, in constant memory, on one thread.

python examples/upload_hash.py [PORT], until Ctrl-C. Then, in another terminal:

    curl -T large.iso http://127.0.0.1:8000/

`streams = True` has the handler called when the head of a request has been read. `consume` calls `update` with each
piece of the body as it arrives, and then the function that makes the response. While the server hashes a piece it reads
nothing more, so a client that is faster than that has to wait, and no memory fills up.
"""

from __future__ import annotations

import hashlib
import signal
import sys
from concurrent.futures import Future

from kaserve import BaseHandler, Config, HTTPError, Request, Response, Server


class Hash(BaseHandler):
    """Responds with the SHA-256 of the body."""

    streams = True

    def __call__(self, request: Request) -> Future[Response]:
        if request.method not in ("POST", "PUT"):
            raise HTTPError(405, "upload something", (("Allow", "POST, PUT"),))
        digest = hashlib.sha256()
        size = 0

        def update(piece: bytes) -> None:
            nonlocal size
            digest.update(piece)
            size += len(piece)

        return request.stream.consume(update, lambda: Response.json({"sha256": digest.hexdigest(), "bytes": size}))


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the program as Ctrl-C does
    server = Server(Hash(), Config(port=port, limit_request_body=1 << 50))  # the default is 1 GiB
    server.open()  # raises OSError if the address is unavailable
    print(f"at {server.url} until Ctrl-C", flush=True)
    server.run()


if __name__ == "__main__":
    main()
