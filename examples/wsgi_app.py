"""A WSGI application in four threads, because it may block, and files, which need no threads.

python examples/wsgi_app.py [PORT], until Ctrl-C.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kaserve import Config, Request, Response, Server
from kaserve.handlers import Files
from kaserve.handlers.wsgi.application import WSGI


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Every framework provides one: Flask's `app`, Django's `get_wsgi_application()`."""
    time.sleep(0.01)  # a database query, for example
    body = f"hello, {environ['PATH_INFO']}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


application = WSGI(app, threads=4)
files = Files(Path(__file__).parent)


def handler(request: Request) -> Any:
    """Chooses the application or the files: both are functions of a request."""
    chosen: Callable[[Request], Response | Any] = files if request.path.endswith(".py") else application
    return chosen(request)


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = Server(handler, Config(port=port))
    server.open()
    print(f"at {server.url} until Ctrl-C", flush=True)
    server.run()
    application.close()


if __name__ == "__main__":
    main()
