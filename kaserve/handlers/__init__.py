"""What responds to a request: handlers that know messages, and never sockets."""

from __future__ import annotations

from ..threads.body_file import BodyFile
from .middleware.threaded import Threaded
from .mount import Mount
from .static.files import Files
from .wsgi.application import WSGI

__all__ = ["WSGI", "BodyFile", "Files", "Mount", "Threaded"]
