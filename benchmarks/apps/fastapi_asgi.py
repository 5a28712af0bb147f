"""A JSON endpoint of FastAPI, with a query parameter that is checked."""

import importlib

# Imported by name: the peers and their libraries are optional, and so must not be needed to check the types here.
app = importlib.import_module("fastapi").FastAPI()


async def _hello(name: str = "world") -> dict[str, str]:
    return {"hello": name}


app.get("/")(_hello)
