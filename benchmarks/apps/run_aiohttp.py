"""aiohttp on uvloop, without its access log.

python run_aiohttp.py PORT [DIRECTORY]
"""

import importlib
import sys
from typing import Any

# Imported by name: the peers are optional, and so must not be needed to check the types here.
web = importlib.import_module("aiohttp.web")
uvloop = importlib.import_module("uvloop")


async def hello(request: Any) -> Any:
    """Answer with five bytes of text."""
    return web.Response(text="hello")


def application(directory: str | None) -> Any:
    """The files of a directory, or hello."""
    app = web.Application()
    if directory is None:
        app.router.add_get("/", hello)
    else:
        app.router.add_static("/", directory)
    return app


if __name__ == "__main__":
    web.run_app(
        application(sys.argv[2] if len(sys.argv) > 2 else None),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        keepalive_timeout=120,
        print=None,
        loop=uvloop.new_event_loop(),
    )
