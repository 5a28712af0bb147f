"""The compiled system calls, to a type checker: they do what the standard library does."""

import socket

from .poller import Poller
from .sockets import PlainSocket

def accept(listening: socket.socket) -> tuple[PlainSocket, object] | None: ...
def Socket(sock: socket.socket) -> PlainSocket: ...
def Epoll() -> Poller: ...
