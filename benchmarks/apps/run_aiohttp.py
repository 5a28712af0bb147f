"""aiohttp on uvloop, without its access log.

python run_aiohttp.py PORT hello | upload | files [DIRECTORY]
"""

import importlib
import sys
from typing import Any

# Imported by name: the peers are optional, and so must not be needed to check the types here.
web = importlib.import_module("aiohttp.web")
uvloop = importlib.import_module("uvloop")


async def hello(request: Any) -> Any:
    """Respond with five bytes of text."""
    return web.Response(text="hello")


async def upload(request: Any) -> Any:
    """Read the whole body, and respond with its length in bytes."""
    return web.Response(text=str(len(await request.read())))


def application(what: str, directory: str) -> Any:
    """The one thing it is to do."""
    app = web.Application()
    if what == "files":
        app.router.add_static("/", directory)
    elif what == "upload":
        app.router.add_post("/upload", upload)
    else:
        app.router.add_get("/", hello)
    return app


if __name__ == "__main__":
    web.run_app(
        application(sys.argv[2], "".join(sys.argv[3:])),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        keepalive_timeout=120,
        print=None,
        loop=uvloop.new_event_loop(),
    )
