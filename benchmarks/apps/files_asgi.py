"""Files for the ASGI servers, by Starlette, which is how their users serve them."""

import importlib
import os

# Imported by name: the peers and their libraries are optional, and so must not be needed to check the types here.
app = importlib.import_module("starlette.staticfiles").StaticFiles(directory=os.environ["BENCH_DIRECTORY"])
