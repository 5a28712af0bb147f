"""A handler: a function from a request to a response.

python examples/handler.py [PORT], until Ctrl-C.
"""

from __future__ import annotations

import sys

from kaserve import Config, Request, Response, Server


def handler(request: Request) -> Response:
    if request.path == "/":
        return Response.html("<p>Try <a href='/hello?name=you'>/hello</a>, or POST something to /length.")
    if request.path == "/hello":
        return Response.json({"hello": request.query.get("name", "world")})
    if request.path == "/length" and request.method == "POST":
        return Response.text(f"{len(request.body.read())} bytes\n")
    if request.path == "/lines":  # of unknown length: sent in chunks, as fast as the client reads
        return Response(200, (b"line %d\n" % number for number in range(1000)), {"Content-Type": "text/plain"})
    return Response.text("not found\n", 404)


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = Server(handler, Config(port=port))
    server.open()  # raises OSError if the address is unavailable
    print(f"at {server.url} until Ctrl-C", flush=True)
    server.run()


if __name__ == "__main__":
    main()
