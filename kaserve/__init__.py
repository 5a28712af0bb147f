"""kaserve: an HTTP/1.1 server that specialises in the persistent (keep-alive) connection.

>>> from kaserve import Config, Request, Response, Server
>>> def hello(request: Request) -> Response:
...     return Response.text("hello")
>>> with Server(hello, Config(port=0, access_log=False)) as server:
...     server.url.startswith("http://127.0.0.1:")
True
"""

import os
from typing import TYPE_CHECKING, Any

from ._build import prefer_sources, warn_if_stale

# Before the first import of a module that may be compiled.
if os.environ.get("KASERVE_PURE", "") not in ("", "0"):
    prefer_sources(__name__)
elif __name__ == "kaserve":  # and not the copy that `_build.load_sources` makes of the sources
    warn_if_stale()


from ._version import __version__
from .cli.run import run
from .config import Config, ConfigError
from .http.address import Address
from .http.body_stream import BodyStream, ClientDisconnected
from .http.errors import HTTPError
from .http.file_span import FileSpan
from .http.forms import Form, UploadedFile
from .http.handler import BaseHandler
from .http.headers import Headers
from .http.messages import Request, Response
from .http.multi_mapping import MultiMapping
from .http.tunnel import Tunnel, TunnelConnection
from .http.wire import IMPLEMENTATION
from .net.service import StartupFailed
from .server import Server

if TYPE_CHECKING:
    from .asgi.application import ASGI
    from .server.serving import serve

__all__ = [
    "ASGI",
    "IMPLEMENTATION",
    "Address",
    "BaseHandler",
    "BodyStream",
    "ClientDisconnected",
    "Config",
    "ConfigError",
    "FileSpan",
    "Form",
    "HTTPError",
    "Headers",
    "MultiMapping",
    "Request",
    "Response",
    "Server",
    "StartupFailed",
    "Tunnel",
    "TunnelConnection",
    "UploadedFile",
    "__version__",
    "run",
    "serve",
]


def __getattr__(name: str) -> Any:
    """The names that need asyncio, which most servers do not: to import it takes as long as all the rest."""
    if name == "ASGI":
        from .asgi.application import ASGI

        return ASGI
    if name == "serve":
        from .server.serving import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
