"""Server: listens, accepts, serves and shuts down."""

from __future__ import annotations

from .server import Server

__all__ = ["Server"]
