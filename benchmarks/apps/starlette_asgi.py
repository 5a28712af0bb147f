"""A JSON endpoint of Starlette."""

import importlib
from typing import Any

# Imported by name: the peers and their libraries are optional, and so must not be needed to check the types here.
_starlette = importlib.import_module("starlette.applications")
_responses = importlib.import_module("starlette.responses")
_routing = importlib.import_module("starlette.routing")


async def _hello(request: Any) -> Any:
    return _responses.JSONResponse({"hello": "world"})


app = _starlette.Starlette(routes=[_routing.Route("/", _hello)])
