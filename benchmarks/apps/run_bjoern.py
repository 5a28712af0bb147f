"""bjoern has no command line: run a WSGI app with it.

python run_bjoern.py PORT MODULE
"""

import importlib
import sys

if __name__ == "__main__":
    # Imported by name: the peers are optional, and so must not be needed to check the types here.
    app = importlib.import_module(sys.argv[2]).app
    importlib.import_module("bjoern").run(app, "127.0.0.1", int(sys.argv[1]))
