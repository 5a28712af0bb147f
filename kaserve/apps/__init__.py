"""What answers a request: handlers that know messages, and never sockets."""

from __future__ import annotations

from .files import Files
from .mount import Mount
from .wsgi import WSGI

__all__ = ["WSGI", "Files", "Mount"]
