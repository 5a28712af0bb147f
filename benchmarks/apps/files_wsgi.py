"""Files for the WSGI servers, by WhiteNoise, which is how their users serve them."""

import importlib
import os

from hello_wsgi import app as fallback

# Imported by name: the peers and their libraries are optional, and so must not be needed to check the types here.
app = importlib.import_module("whitenoise").WhiteNoise(fallback, root=os.environ["BENCH_DIRECTORY"])
